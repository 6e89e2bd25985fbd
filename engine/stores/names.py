"""Names of images as file names: an id never leaves the folder that it is given."""

from pathlib import Path

from camshaft.engine.errors import CamshaftError, StoreError

LONGEST = 200
"""Bytes of an id: with a suffix and a temporary name's prefix it still fits in a file system's 255."""


def check_id(name: str, where: str = "", error: type[CamshaftError] = StoreError) -> None:
    """Refuse an id that is not a plain file name without suffix, so that no path built from it leaves its folder.

    Args:
        name: the id.
        where: the file and line that it comes from, for the message.
        error: what to raise.

    Raises:
        CamshaftError: of the class `error`; names `where`, the id and what an id is.
    """
    place = f"{where}: " if where else ""
    if (
        not name
        or name != name.strip()
        or name.startswith(".")
        or any(character in "/\\:" or not character.isprintable() for character in name)
    ):
        raise error(f"{place}{name!r} is not an id: an image's file name without folder and suffix")
    if len(name.encode()) > LONGEST:
        raise error(f"{place}id {name[:40]!r}… is longer than {LONGEST} bytes")


def file_of(folder: Path, name: str, suffix: str) -> Path:
    """The file of the image `name` in `folder`.

    Raises:
        StoreError: the id would leave the folder.
    """
    check_id(name, str(folder))
    return folder / f"{name}{suffix}"
