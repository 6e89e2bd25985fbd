"""Lists of ids."""

from pathlib import Path

from camshaft.engine.errors import DataError
from camshaft.engine.stores.names import check_id


def read_text(path: Path) -> str:
    """A UTF-8 text file, with or without a byte-order mark.

    Raises:
        DataError: missing or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read as UTF-8 text: {error}") from error


def read_ids(path: Path) -> dict[str, int]:
    """A list of ids, one a line: each id and its line number, in order; blank lines are passed over.

    Raises:
        DataError: missing, empty, an id twice, or an id that `check_id` refuses; names the file and the line.
    """
    line_of: dict[str, int] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        image_id = line.strip()
        if not image_id:
            continue
        check_id(image_id, f"{path}, line {number}", DataError)
        if image_id in line_of:
            raise DataError(f"{path}, line {number}: id {image_id!r} stands in line {line_of[image_id]} already")
        line_of[image_id] = number
    if not line_of:
        raise DataError(f"{path}: holds no ids; one a line is expected")
    return line_of


def named_list(folder: Path, name: str) -> Path:
    """The file of the list `name` in `folder`; "train" is train.txt.

    Raises:
        DataError: the name leaves the folder, or there is no such list (the message names those that there are).
    """
    check_id(name.removesuffix(".txt"), f"{folder}: list {name!r}", DataError)
    path = folder / f"{name.removesuffix('.txt')}.txt"
    if not path.is_file():
        others = ", ".join(sorted(other.stem for other in folder.glob("*.txt"))) or "no lists"
        raise DataError(f"{path}: there is no such list; the folder holds {others}")
    return path
