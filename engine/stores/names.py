"""Names of images as file names: an id never leaves the folder that it is given."""

from pathlib import Path, PurePosixPath

from camshaft.engine.errors import StoreError
from camshaft.engine.runtime.files import TEMPORARY_PREFIX


def check_id(name: str) -> None:
    """Raise StoreError unless `name` can name a file inside a folder and a line of a table."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or name != "/".join(parts):
        raise StoreError(f"{name!r}: not an id: it must be a plain name, or a path inside a folder")
    if not name.isprintable() or parts[-1].startswith(TEMPORARY_PREFIX):
        raise StoreError(f"{name!r}: not an id: it has an unprintable character or starts with {TEMPORARY_PREFIX!r}")


def file_of(folder: Path, name: str, suffix: str) -> Path:
    """The file of the image `name` in `folder`.

    Raises:
        StoreError: the id would leave the folder.
    """
    check_id(name)
    return folder / f"{name}{suffix}"
