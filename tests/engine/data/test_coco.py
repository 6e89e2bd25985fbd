"""COCO's format: gaps in ids, polygons and run lengths, crowds, overlaps, the index, and all that can be wrong."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle_codec

from camshaft.engine.data import inspect, open_data
from camshaft.engine.data.coco import CocoDataSet, CocoSettings
from camshaft.engine.data.coco_index import CocoIndex, cache_folder, open_index, read_index
from camshaft.engine.data.coco_masks import rasterised
from camshaft.engine.data.json_stream import JsonStream
from camshaft.engine.errors import DataError, ImageError

HEIGHT, WIDTH = 40, 60
PERSON, CAR, DOG = 1, 3, 18
"""Category ids with gaps between them; in masks they are 1, 2 and 3."""

Write = Callable[..., None]


def box(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    """A polygon around whole pixels."""
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Uncompressed run lengths, as COCO writes crowds: down the columns, the first of zeros."""
    flat = mask.ravel(order="F").astype(np.int8)
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges.tolist(), flat.size]).tolist()
    return {"size": list(mask.shape), "counts": counts if not flat[0] else [0, *counts]}


def compressed(mask: np.ndarray) -> dict[str, Any]:
    encoded = rle_codec.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def left_half() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:, : WIDTH // 2] = True
    return mask


def annotation(
    number: int, image: int, category: int, segmentation: Any, area: float, crowd: int = 0
) -> dict[str, Any]:
    values = {"id": number, "image_id": image, "category_id": category, "iscrowd": crowd, "area": area}
    return {"segmentation": segmentation, **values, "bbox": [0, 0, 1, 1]}


def image_entry(number: int, split: str) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": f"COCO_{split}_{number:012d}.jpg",
        "height": HEIGHT,
        "width": WIDTH,
        "license": 3,
    }


def instances(split: str, numbers: list[int], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    categories = [(DOG, "dog"), (PERSON, "person"), (CAR, "car")]
    return {
        "info": {"description": "COCO ☕", "year": 2014},
        "images": [image_entry(number, split) for number in numbers],
        "licenses": [{"id": 3, "name": "CC"}],
        "annotations": annotations,
        "categories": [{"id": number, "name": name, "supercategory": "thing"} for number, name in categories],
    }


TRAIN = [
    annotation(11, 9, CAR, box(10, 10, 30, 30), 400.0),
    annotation(12, 25, PERSON, run_lengths(left_half()), 1200.0, crowd=1),
    annotation(13, 25, DOG, box(20, 5, 40, 25), 400.0),
    annotation(14, 9, PERSON, box(5, 5, 50, 35), 1350.0),
]
VAL = [annotation(21, 42, DOG, compressed(left_half()), 1200.0), annotation(22, 42, CAR, [], 0.0)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder()


@pytest.fixture
def root(tmp_path: Path, photo: Callable[..., Path]) -> Path:
    """Images 9, 25 and 30 (without any annotation) for training and 42 for validation."""
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    for split, numbers, annotations in (("train2014", [9, 30, 25], TRAIN), ("val2014", [42], VAL)):
        write(folder, split, instances(split, numbers, annotations))
        for number in numbers:
            photo(folder / split / f"COCO_{split}_{number:012d}.jpg", (HEIGHT, WIDTH))
    return folder


def write(folder: Path, split: str, value: Any) -> None:
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(value, ensure_ascii=False))


def opened(root: Path, **settings: Any) -> CocoDataSet:
    data = open_data(CocoSettings.model_validate({"kind": "coco", "root": root.name, **settings}), root.parent)
    assert isinstance(data, CocoDataSet)
    return data


def train_id(number: int) -> str:
    return f"COCO_train2014_{number:012d}"


def mask_of(data: CocoDataSet, number: int) -> np.ndarray:
    mask = data.mask(train_id(number))
    assert mask is not None
    assert (mask.dtype, mask.shape) == (np.uint8, (HEIGHT, WIDTH))
    return mask


def test_images_classes_and_tags(root: Path) -> None:
    data = opened(root)
    assert data.classes == ("person", "car", "dog")
    assert data.file_values == (0, 1, 2, 3)
    assert data.ids("train") == (train_id(9), train_id(30), train_id(25))
    assert data.ids("val") == ("COCO_val2014_000000000042",)
    np.testing.assert_array_equal(data.tags("train"), [[1, 1, 0], [0, 0, 0], [1, 0, 1]])
    np.testing.assert_array_equal(data.tags("val"), [[0, 1, 1]])
    assert data.has_masks("val")
    assert not data.has_saliency("val")
    found = inspect(data, ["train", "val"], masks=["train", "val"])
    assert found.splits["train"].untagged == (train_id(30),)
    assert opened(root, values="category_id").file_values == (0, PERSON, CAR, DOG)


def test_images_without_annotations_may_be_left_out(root: Path) -> None:
    data = opened(root, untagged="leave_out")
    assert data.ids("train") == (train_id(9), train_id(25))
    assert data.tags("train").any(1).all()
    only_cars = opened(root, untagged="leave_out", classes=["car"], other_values="background")
    assert only_cars.ids("train") == (train_id(9),)
    with pytest.raises(DataError, match=r"instances_val2014\.json: no image has any of the classes"):
        opened(root, untagged="leave_out", classes=["person"], other_values="void")


def test_the_smaller_instance_is_on_top_or_the_last(root: Path) -> None:
    smallest = mask_of(opened(root), 9)
    assert (smallest[20, 20], smallest[7, 7], smallest[0, 0]) == (2, 1, 0)
    assert (smallest == 2).sum() == 400
    assert (smallest == 1).sum() == 45 * 30 - 400
    last = mask_of(opened(root, overlap="last"), 9)
    assert (last[20, 20], (last == 2).sum()) == (1, 0)
    assert (mask_of(opened(root), 30) == 0).all()


def test_areas_that_the_file_does_not_state_are_counted(root: Path) -> None:
    before = mask_of(opened(root), 9)
    bare = [{key: value for key, value in one.items() if key != "area"} for one in TRAIN]
    write(root, "train2014", instances("train2014", [9, 30, 25], bare))
    np.testing.assert_array_equal(mask_of(opened(root), 9), before)


def test_crowds_are_their_class_or_void_or_background(root: Path) -> None:
    mask = mask_of(opened(root), 25)
    assert (mask[0, 0], mask[10, 25], mask[10, 35], mask[0, 59]) == (1, 3, 3, 0)
    void = mask_of(opened(root, crowd="void"), 25)
    assert (void[0, 0], void[10, 25], void[10, 35]) == (255, 3, 3)
    background = mask_of(opened(root, crowd="background"), 25)
    assert (background[0, 0], background[10, 25]) == (0, 3)
    assert opened(root, crowd="background").tags("train").tolist() == opened(root).tags("train").tolist()


def test_void_crowds_lie_below_larger_objects(root: Path) -> None:
    larger = [
        annotation(1, 9, PERSON, run_lengths(left_half()), 10.0, crowd=1),
        annotation(2, 9, CAR, box(0, 0, 60, 40), 2400.0),
    ]
    write(root, "train2014", instances("train2014", [9, 30, 25], larger))
    assert (mask_of(opened(root, crowd="void"), 9) == 2).all()
    assert (mask_of(opened(root), 9)[:, :30] == 1).all()


def test_run_lengths_plain_and_compressed_and_polygons_agree() -> None:
    mask = left_half()
    mask[3, 50] = True
    for segmentation in (run_lengths(mask), compressed(mask)):
        np.testing.assert_array_equal(rasterised(segmentation, HEIGHT, WIDTH), mask)
    np.testing.assert_array_equal(rasterised(box(0, 0, 30, 40), HEIGHT, WIDTH), left_half())
    noise = np.random.default_rng(4).random((HEIGHT, WIDTH)) < 0.3
    np.testing.assert_array_equal(rasterised(compressed(noise), HEIGHT, WIDTH), noise)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 2, 3, 4]], "a polygon has at least three points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "a polygon has at least three points"),
        ([[1, 2, 3, 4, 5, "x"]], "a polygon has at least three points"),
        ([[1, 2, 3, 4, 5, 1e9]], "far outside of its image of 60×40"),
        ([[1, 2, 3, 4, 5, float("nan")]], "far outside of its image"),
        ({"size": [WIDTH, HEIGHT], "counts": [2400]}, "neither polygons nor run lengths of an image of 60×40"),
        ({"size": [HEIGHT, WIDTH], "counts": [2399]}, "don't add up to 2400 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": [-1, 2401]}, "don't add up"),
        ({"size": [HEIGHT, WIDTH], "counts": "oooooooooooo"}, "its text is no run lengths"),
        ({"size": [HEIGHT, WIDTH], "counts": "oo"}, "ends within a run length"),
        ({"size": [HEIGHT, WIDTH], "counts": "12"}, "don't add up"),
        ({"size": [HEIGHT, WIDTH], "counts": "\x00zzz"}, "its text is no run lengths"),
        ({"size": [HEIGHT, WIDTH], "counts": "☕"}, "neither numbers nor text"),
        ({"size": [HEIGHT, WIDTH], "counts": None}, "neither numbers nor text"),
        (None, "neither polygons nor run lengths"),
    ],
)
def test_a_broken_outline_is_named(root: Path, segmentation: Any, message: str) -> None:
    write(root, "train2014", instances("train2014", [9, 30, 25], [annotation(1, 9, CAR, segmentation, 5.0)]))
    data = opened(root)
    assert data.tags("train")[0].tolist() == [0, 1, 0]
    with pytest.raises(DataError) as error:
        data.mask(train_id(9))
    assert str(error.value).startswith(
        f"{root}/annotations/instances_train2014.json: image '{train_id(9)}': segmentation: "
    )
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_classes_in_use(root: Path) -> None:
    data = opened(root, classes=["dog", "car"])
    assert data.file_values == (0, 3, 2)
    np.testing.assert_array_equal(data.tags("train"), [[0, 1], [0, 0], [1, 0]])
    with pytest.raises(
        DataError, match=r"annotation 14 is of 'person', which is no class in use; .*data\.other_values"
    ):
        data.mask(train_id(9))
    assert set(np.unique(mask_of(opened(root, classes=["dog", "car"], other_values="void"), 9))) == {0, 2, 255}
    assert set(np.unique(mask_of(opened(root, classes=["dog", "car"], other_values="background"), 9))) == {0, 2}
    with pytest.raises(DataError, match="knows no class 'cow'; there are person, car, dog"):
        opened(root, classes=["cow"])


@pytest.mark.parametrize("name", [train_id(9), "000000000009", "9"])
def test_masks_from_a_folder_of_pngs(root: Path, name: str) -> None:
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[:, 30:] = DOG
    (root / "semantic" / "train2014").mkdir(parents=True)
    Image.fromarray(values).save(root / "semantic" / "train2014" / f"{name}.png")
    data = opened(root, masks="semantic", values="category_id")
    assert mask_of(data, 9)[0].tolist() == [0] * 30 + [3] * 30
    assert data.mask(train_id(25)) is None
    assert data.has_masks("train")
    assert not data.has_masks("val")
    with pytest.raises(DataError, match="value 18 is no class's; a mask here may hold 0, 1, 2, 3, 255"):
        opened(root, masks="semantic").mask(train_id(9))
    with pytest.raises(DataError, match=r"holds no folder train2014 or val2014 \(data\.masks\)"):
        opened(root, masks="annotations")


def test_settings_that_would_have_no_effect_are_refused() -> None:
    for settings, message in (
        ({"masks": "semantic", "crowd": "void"}, "crowd can't be used with masks"),
        ({"masks": "semantic", "overlap": "last", "crowd": "void"}, "crowd and overlap can't be used with masks"),
        ({"values": "category_id", "mask_values": {"dog": 1}}, "values can't be used with mask_values"),
    ):
        with pytest.raises(ValueError, match=message):
            CocoSettings.model_validate({"kind": "coco", "root": "coco", **settings})


def test_another_size_than_the_annotations_say(root: Path, photo: Callable[..., Path]) -> None:
    photo(root / "train2014" / f"{train_id(9)}.jpg", (20, 30))
    with pytest.raises(ImageError, match=r"instances_train2014\.json: is 60×40 .*, but its image .*9\.jpg is 30×20"):
        opened(root).mask(train_id(9))


def test_one_id_in_two_splits_is_refused(root: Path) -> None:
    value = instances("val2014", [42], [])
    value["images"][0]["file_name"] = f"{train_id(30)}.jpg"
    write(root, "val2014", value)
    shutil.copy(root / "train2014" / f"{train_id(30)}.jpg", root / "val2014" / f"{train_id(30)}.jpg")
    with pytest.raises(DataError, match=rf"train2014/{train_id(30)}\.jpg and .*val2014/.* have the same id"):
        opened(root)


def test_missing_parts(root: Path) -> None:
    (root / "train2014" / f"{train_id(30)}.jpg").unlink()
    with pytest.raises(DataError, match=rf"instances_train2014\.json: .*train2014 holds no image of '{train_id(30)}'$"):
        opened(root)
    with pytest.raises(DataError, match=r"instances_val2017\.json: can't be read: No such file"):
        opened(root, train="val2014", val="val2017")
    with pytest.raises(DataError, match=r"data\.train: '\.\./other' is not an id"):
        opened(root, train="../other", val="val2014")
    for key in ("annotations", "masks", "saliency"):
        with pytest.raises(DataError, match=rf"leaves the data set's folder; .*\(data\.{key}\)"):
            opened(root, **{"val": None, "train": "val2014", key: "../other"})


@pytest.mark.parametrize(
    "name", ["../../etc/passwd.jpg", "/etc/passwd.jpg", ".hidden.jpg", "a\\b.jpg", "notes.txt", ""]
)
def test_a_file_name_that_leaves_its_folder_is_refused(root: Path, name: str) -> None:
    value = instances("val2014", [42], [])
    value["images"][0]["file_name"] = name
    write(root, "val2014", value)
    with pytest.raises(DataError, match=r"instances_val2014\.json: images\[0\]: "):
        opened(root)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: v["annotations"][0].pop("image_id"), r"annotations\[0\], at byte \d+: no 'image_id'"),
        (lambda v: v["annotations"][1].update(category_id=12), r"annotations\[1\]: category_id 12 is no category's id"),
        (lambda v: v["annotations"][1].update(image_id=7), r"annotations\[1\]: image_id 7 is no image's id"),
        (lambda v: v["annotations"][0].update(area="large"), r"annotations\[0\], at byte \d+: could not convert"),
        (lambda v: v["images"][0].update(height=0), r"images\[0\], at byte \d+: an image can't be 60×0"),
        (lambda v: v["images"].append(v["images"][0]), "images: id 42 is there twice"),
        (lambda v: v["categories"].append({"id": DOG, "name": "wolf"}), "categories: id 18 is there twice"),
        (lambda v: v.pop("categories"), "holds no categories; an instances file of COCO is expected"),
        (lambda v: v.update(images={}), r"not valid JSON at byte \d+: an array is expected"),
        (lambda v: v.update(images=[1]), r"at byte \d+: an object is expected"),
        (
            lambda v: v["images"][0].update(id=1 << 70),
            r"images\[0\], at byte \d+: an id is a whole number of",
        ),
        (lambda v: v["annotations"][0].update(id=1 << 70), r"annotations\[0\], at byte \d+: an id is a whole number"),
        (lambda v: v["annotations"][0].update(image_id=42.5), r"annotations\[0\], at byte \d+: an id is .*, not 42\.5"),
        (lambda v: v["categories"][1].update(id=True), r"categories\[1\], at byte \d+: an id is .*, not True"),
        (
            lambda v: v["categories"][1].update(name="a\x7f"),
            r"categories\[1\], at byte \d+: 'a.x7f' is no category's",
        ),
        (lambda v: v["categories"][0].update(name="cat"), "has other categories than .*instances_train2014"),
    ],
)
def test_entries_that_are_wrong_are_named(root: Path, spoil: Callable[[Any], Any], message: str) -> None:
    value = instances("val2014", [42], json.loads(json.dumps(VAL)))
    spoil(value)
    write(root, "val2014", value)
    with pytest.raises(DataError, match=rf"instances_val2014\.json: {message}") as error:
        opened(root)
    assert "\n" not in str(error.value)


def test_what_is_no_file_or_holds_an_endless_number_is_one_line(root: Path) -> None:
    path = root / "annotations" / "instances_val2014.json"
    path.write_bytes(b'{"images": [{"id": ' + b"1" * 5000 + b"}]}")
    with pytest.raises(DataError, match=r"instances_val2014\.json: not valid JSON at byte 12: a number has too many"):
        opened(root)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=r"instances_val2014\.json: can't be read: Is a directory"):
        opened(root)


def test_a_file_that_is_cut_off_anywhere_is_one_clear_line(root: Path) -> None:
    path = root / "annotations" / "instances_val2014.json"
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"instances_val2014\.json: ") as error:
            read_index(path)
        assert "\n" not in str(error.value)
    path.write_bytes(whole + b"x")
    with pytest.raises(DataError, match=rf"not valid JSON at byte {len(whole)}: nothing more is expected"):
        read_index(path)
    path.write_bytes(whole.replace("☕".encode(), b"\xff\xff"))
    with pytest.raises(DataError, match="not UTF-8"):
        read_index(path)


@pytest.mark.parametrize("piece", [1, 2, 5, 64, 1000])
def test_pieces_of_any_length_give_the_same_entries_and_places(tmp_path: Path, piece: int) -> None:
    text = ' {"n" : -12.5e3, "x": [ {"a": [1, {"b": "]}"}]} ,\n{"ü": "☕"} ], "t": true, "e": []}\n '
    path = tmp_path / "file.json"
    for encoded in (text.encode(), b"\xef\xbb\xbf" + text.encode()):
        path.write_bytes(encoded)
        found = {}
        with path.open("rb") as file:
            stream = JsonStream(file, "file", piece)
            for key in stream.keys():  # noqa: SIM118 - a generator
                if key in ("x", "e"):
                    found[key] = [(value, encoded[start : start + n]) for value, start, n in stream.elements()]
                else:
                    stream.skip()
        assert found == {
            "x": [({"a": [1, {"b": "]}"}]}, b'{"a": [1, {"b": "]}"}]}'), ({"ü": "☕"}, '{"ü": "☕"}'.encode())],
            "e": [],
        }


def test_the_index_is_read_once(root: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "annotations" / "instances_train2014.json"
    first = opened(root)
    kept = sorted(own_cache.glob("*.npz"))
    assert len(kept) == 2
    with monkeypatch.context() as patched:
        patched.setattr("camshaft.engine.data.coco_index.read_index", lambda _path: pytest.fail("read again"))
        again = opened(root)
    np.testing.assert_array_equal(again.tags("train"), first.tags("train"))
    np.testing.assert_array_equal(mask_of(again, 25), mask_of(first, 25))
    for file in kept:
        file.write_bytes(file.read_bytes()[:-9])
    np.testing.assert_array_equal(opened(root).tags("train"), first.tags("train"))
    assert isinstance(CocoIndex.load(kept[0]), CocoIndex)
    write(root, "train2014", instances("train2014", [9, 30, 25], TRAIN[:1]))
    os.utime(path, ns=(5, 5))
    assert opened(root).tags("train").sum() == 1


def test_without_a_cache_the_file_is_read_each_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert opened(root).tags("train").sum() == 4


def test_annotations_that_change_meanwhile_are_noticed(root: Path) -> None:
    data = opened(root)
    write(root, "train2014", instances("train2014", [9, 25, 30], [TRAIN[1], TRAIN[0]]))
    with pytest.raises(DataError, match=r"instances_train2014\.json: was changed while it was in use"):
        data.mask(train_id(9))


def test_fingerprints_follow_what_is_used(root: Path) -> None:
    def of(**settings: Any) -> tuple[str, str]:
        data = opened(root, **settings)
        return data.fingerprint("train"), data.fingerprint("train", masks=True)

    first = of()
    assert first[0] != first[1]
    assert of() == first
    assert of(untagged="leave_out")[0] != first[0]
    for rule in ({"crowd": "void"}, {"overlap": "last"}):
        other = of(**rule)
        assert (other[0] == first[0], other[1] == first[1]) == (True, False)
    shifted = [{**one, "area": 1.0} for one in TRAIN]
    write(root, "train2014", instances("train2014", [9, 30, 25], shifted))
    other = of()
    assert (other[0] == first[0], other[1] == first[1]) == (True, False)


def test_a_whole_file_of_eighty_classes(tmp_path: Path, photo: Callable[..., Path]) -> None:
    gaps = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    numbers = [number for number in range(1, 91) if number not in gaps]
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    photo(root / "train2014" / "000000000001.jpg", (HEIGHT, WIDTH))
    entry = {**image_entry(1, "train2014"), "file_name": "000000000001.jpg"}
    write(
        root,
        "train2014",
        {
            "images": [entry],
            "categories": [{"id": number, "name": f"class {number}"} for number in reversed(numbers)],
            "annotations": [
                annotation(1, 1, 90, box(0, 0, 10, 10), 100.0),
                annotation(2, 1, 13, box(50, 0, 60, 9), 90.0),
            ],
        },
    )
    data = opened(root, val=None)
    assert len(data.classes) == 80
    assert np.flatnonzero(data.tags("train")[0]).tolist() == [11, 79]
    mask = data.mask("000000000001")
    assert mask is not None
    assert (mask[0, 0], mask[0, 59]) == (80, 12)
    index = open_index(root / "annotations" / "instances_train2014.json")
    assert index.category_ids.tolist() == numbers
