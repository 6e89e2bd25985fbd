"""Files that are whole or absent: written under a temporary name, flushed, then renamed."""

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from camshaft.engine.errors import CamshaftError, DiskFullError

TEMPORARY_PREFIX = ".part-"
_REFUSALS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT}


def _temporary(path: Path) -> Path:
    """A name beside `path` that nobody else has; unlike `tempfile`'s, what gets it is as readable as any new file."""
    return path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{path.name}")


@contextmanager
def disk_full_named(path: Path) -> Iterator[None]:
    """Turn the operating system's "no space left" into a `DiskFullError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"{path}: no space left on the disk; free some and run the same command again, it goes on from here"
            ) from error
        raise


@contextmanager
def _refusal_named(path: Path, temporary: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into one line; other errors are none of its business."""
    try:
        yield
    except OSError as error:
        if error.errno in _REFUSALS and error.filename is not None:
            refused = Path(error.filename)
            if refused in (temporary, path, *path.parents):
                where = "" if refused in (temporary, path) else f"{refused}: "
                raise CamshaftError(f"{path}: can't be written: {where}{error.strerror}") from error
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; on success it is flushed and renamed to `path`, else removed.

    Raises:
        DiskFullError: no space was left; `path` is as it was before.
        CamshaftError: there can be no such file, or it may not be written.
    """
    if not path.name:
        raise CamshaftError(f"{path}: is a folder; a file is needed")
    temporary = _temporary(path)
    with disk_full_named(path), _refusal_named(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all; NaN and infinity are errors."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`; on success it is renamed to `path`, else removed.

    `path` must not exist. A process that is killed leaves only a folder with a temporary name behind, which
    `remove_leftovers` clears.
    """
    temporary = _temporary(path)
    with disk_full_named(path):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left under temporary names in `folder` (not below it)."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
