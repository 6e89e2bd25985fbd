"""One run at a time in a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from camshaft.engine.errors import CamshaftError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the operating system frees it however the process ends.

    Raises:
        CamshaftError: another process holds it, or the folder can't be written to.
    """
    check_place(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+")
    except OSError as error:
        raise CamshaftError(f"{folder}: no run can be kept here: {error.strerror}") from None
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise CamshaftError(f"{folder}: another run is at work in this folder (process {holder})") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def check_place(folder: Path) -> None:
    """See that nothing but folders is, or is above, a run's folder, which need not be there yet.

    Raises:
        CamshaftError: a file is.
    """
    there = next(above for above in (folder, *folder.absolute().parents) if above.exists())
    if not there.is_dir():
        raise CamshaftError(f"{folder}: no run can be kept here: {there} is a file; name a folder with --out")
