import pickle
from pathlib import Path

import numpy as np
import pytest

from camshaft.engine.data.tags import read_array_tags, read_csv_tags, read_xml_tags
from camshaft.engine.errors import DataError

CLASSES = ("cat", "dog")


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_column_a_class(tmp_path: Path) -> None:
    table = read_csv_tags(written(tmp_path / "t.csv", "id,cat,dog\na.jpg,1,0\nb,0,0\n\nc, 1 ,1\n"))
    assert table.classes == CLASSES
    np.testing.assert_array_equal(table.matrix(["c", "a", "b"], ("dog", "cat")), [[1, 1], [0, 1], [0, 0]])
    assert table.where["c"].endswith("t.csv, line 5")


def test_names(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", 'image,tags\na.png,dog; cat\nb,\n"c, d",cat;cat\n')
    table = read_csv_tags(path)
    assert table.classes == CLASSES
    np.testing.assert_array_equal(table.matrix(["a", "b", "c, d"], CLASSES), [[1, 1], [0, 0], [1, 0]])


def test_an_id_with_a_dot_keeps_what_is_no_image_suffix(tmp_path: Path) -> None:
    assert list(read_csv_tags(written(tmp_path / "t.csv", "id,cat,dog\nv1.5,1,0\n")).present) == ["v1.5"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the header must be"),
        ("id\na\n", "line 1: the header must be"),
        ("a,1,0\nb,0,1\n", "line 1: the header must be"),
        (f"id,cat\na,{'1' * 200_000}\n", "line 2: field larger than field limit"),
        ("id,cat,cat\na,1,1\n", "line 1: class 'cat' is empty or stands in the header twice"),
        ("id,cat,\na,1,1\n", "line 1: class '' is empty"),
        ("id,cat,dog\na,1\n", "line 2: 2 columns, but the header has 3"),
        ("id,cat,dog\na,1,0\nb,2,0\n", "line 3: class 'cat' must be 0 or 1, not '2'"),
        ("id,cat,dog\na,1,\n", "line 2: class 'dog' must be 0 or 1, not ''"),
        ("id,cat,dog\na,1,0\na.jpg,1,0\n", "line 3: image 'a' has its tags in line 2 already"),
        ("id,cat,dog\n../a,1,0\n", r"line 2: '../a' is not an id"),
        ("image,tags\na,cat\nb,cta\n", "line 3: unknown class 'cta'; classes are cat, dog"),
    ],
)
def test_bad_tables_are_named_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"t\.csv, {message}"):
        read_csv_tags(written(tmp_path / "t.csv", text), CLASSES)


def test_missing_rows_and_unknown_classes(tmp_path: Path) -> None:
    table = read_csv_tags(written(tmp_path / "t.csv", "id,cat,dog\na,1,0\n"))
    with pytest.raises(DataError, match=r"t\.csv: holds no tags of image 'b' \(and of 1 more\)"):
        table.matrix(["a", "b", "c"], CLASSES)
    with pytest.raises(DataError, match=r"t\.csv: knows no class 'cow'; there are cat, dog"):
        table.matrix(["a"], ("cow",))


def annotation(*names: str) -> str:
    objects = "".join(f"<object><name>{name}</name><part><name>head</name></part></object>" for name in names)
    return f"<annotation><filename>a.jpg</filename>{objects}</annotation>"


def test_xml(tmp_path: Path) -> None:
    written(tmp_path / "a.xml", annotation("dog", "cat", "dog"))
    written(tmp_path / "b.xml", annotation())
    table = read_xml_tags(tmp_path, ["a", "b"], CLASSES)
    np.testing.assert_array_equal(table.matrix(["a", "b"], CLASSES), [[1, 1], [0, 0]])
    assert read_xml_tags(tmp_path, ["a"], None).classes == CLASSES


def test_bad_xml(tmp_path: Path) -> None:
    written(tmp_path / "a.xml", annotation("dgo"))
    with pytest.raises(DataError, match=r"a\.xml: an object's class 'dgo' is none of cat, dog"):
        read_xml_tags(tmp_path, ["a"], CLASSES)
    with pytest.raises(DataError, match=r"c\.xml: there is no such file"):
        read_xml_tags(tmp_path, ["c"], CLASSES)
    written(tmp_path / "d.xml", "<annotation>")
    with pytest.raises(DataError, match=r"d\.xml: is not valid XML"):
        read_xml_tags(tmp_path, ["d"], CLASSES)


def test_npz_and_structured_npy(tmp_path: Path) -> None:
    tags = np.array([[1, 0], [1, 1]], np.uint8)
    np.savez(tmp_path / "t.npz", ids=np.array(["a", "bb"]), tags=tags)
    rows = np.array([("a", [1, 0]), ("bb", [1, 1])], dtype=[("id", "U8"), ("tags", "u1", (2,))])
    np.save(tmp_path / "t.npy", rows)
    for name in ("t.npz", "t.npy"):
        table = read_array_tags(tmp_path / name, CLASSES)
        np.testing.assert_array_equal(table.matrix(["bb", "a"], CLASSES), tags[::-1])
    np.savez(tmp_path / "own.npz", ids=np.array(["a"]), tags=tags[:1], classes=np.array(["dog", "cat"]))
    np.testing.assert_array_equal(read_array_tags(tmp_path / "own.npz", VOC20).matrix(["a"], CLASSES), [[0, 1]])


VOC20 = tuple(f"class{k}" for k in range(20))


class Bomb:
    """Leaves a trace if it is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("raw", [False, True])
def test_pickled_dictionary_is_refused_unread_with_a_way_to_convert_it(tmp_path: Path, raw: bool) -> None:
    path = tmp_path / "cls_labels.npy"
    if raw:
        path.write_bytes(pickle.dumps({"a": Bomb(tmp_path / "trace")}))
    else:
        np.save(path, np.array({"a": Bomb(tmp_path / "trace")}, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"cls_labels\.npy: holds pickled Python objects.*np\.savez\('cls_labels\.npz'"):
        read_array_tags(path, CLASSES)
    assert not (tmp_path / "trace").exists()


def test_the_conversion_that_the_error_names_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("cls_labels.npy", np.array({"a": np.array([1.0, 0.0])}, dtype=object), allow_pickle=True)
    with pytest.raises(DataError) as caught:
        read_array_tags(Path("cls_labels.npy"), CLASSES)
    exec(str(caught.value).split('python -c "')[1].rsplit('"', 1)[0])
    np.testing.assert_array_equal(read_array_tags(Path("cls_labels.npz"), CLASSES).matrix(["a"], CLASSES), [[1, 0]])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ids": ["a"]}, "expected arrays ids"),
        ({"ids": ["a"], "tags": [[1, 0], [0, 1]]}, "expected arrays ids"),
        ({"ids": [7], "tags": [[1, 0]]}, "expected arrays ids"),
        ({"ids": ["a"], "tags": [[1, 0, 0]]}, "3 columns of tags, but 2 classes"),
        ({"ids": ["a"], "tags": [[2, 0]]}, "tags must be 0 or 1"),
        ({"ids": ["a", "a"], "tags": [[1, 0], [1, 0]]}, "image 'a' has tags twice"),
        ({"ids": ["../a"], "tags": [[1, 0]]}, "'../a' is not an id"),
    ],
)
def test_arrays_of_other_forms(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    np.savez(tmp_path / "t.npz", **{name: np.array(value) for name, value in arrays.items()})
    with pytest.raises(DataError, match=rf"t\.npz: {message}"):
        read_array_tags(tmp_path / "t.npz", CLASSES)


def test_damaged_and_missing_arrays(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, ids=np.array(["a"]), tags=np.zeros((1, 2), np.uint8))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"t\.npz: can't be read as NumPy arrays"):
        read_array_tags(path, CLASSES)
    with pytest.raises(DataError, match=r"none\.npz: there is no such file"):
        read_array_tags(tmp_path / "none.npz", CLASSES)
