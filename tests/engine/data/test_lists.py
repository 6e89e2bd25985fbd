from pathlib import Path

import pytest

from camshaft.engine.data.lists import named_list, read_ids
from camshaft.engine.errors import DataError


def test_ids_keep_their_order_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes(b"\xef\xbb\xbf2008_000002\r\n\r\n  2007_000001\r\nIMG 12 (b)")
    assert read_ids(path) == {"2008_000002": 1, "2007_000001": 3, "IMG 12 (b)": 4}


@pytest.mark.parametrize(
    "bad",
    [
        "../secret",
        "/etc/passwd",
        "a/b",
        "..",
        ".",
        ".hidden",
        "a\\b",
        "C:x",
        "a\0b",
        "a\x1bb",
        "x" * 201,
        "/JPEGImages/a.jpg",
    ],
)
def test_an_id_that_leaves_its_folder_is_named_with_its_line(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "train.txt"
    path.write_text(f"good\n{bad}\n")
    with pytest.raises(DataError, match=r"train\.txt, line 2: "):
        read_ids(path)


def test_duplicate_id(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("a\nb\na\n")
    with pytest.raises(DataError, match=r"train\.txt, line 3: id 'a' stands in line 1 already"):
        read_ids(path)


def test_empty_missing_and_binary_lists(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("\n\n")
    with pytest.raises(DataError, match=r"train\.txt: holds no ids"):
        read_ids(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"train\.txt: can't be read as UTF-8"):
        read_ids(path)
    with pytest.raises(DataError, match=r"none\.txt: there is no such file"):
        read_ids(tmp_path / "none.txt")


def test_lists_are_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "mini.txt").write_text("a\n")
    assert named_list(tmp_path, "mini") == named_list(tmp_path, "mini.txt") == tmp_path / "mini.txt"
    with pytest.raises(DataError, match=r"train\.txt: there is no such list; the folder holds mini"):
        named_list(tmp_path, "train")
    with pytest.raises(DataError, match="is not an id"):
        named_list(tmp_path / "mini", "../mini")
