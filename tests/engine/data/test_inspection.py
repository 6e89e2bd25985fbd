import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camshaft.engine.data import Inspection, conclude, inspect, look, open_data
from camshaft.engine.data.dataset import DataSet
from camshaft.engine.data.scenes import Scenes, ScenesSettings
from camshaft.engine.data.voc import VocSettings
from camshaft.engine.errors import DataError

SPLITS = ("train", "val")


def opened(root: Path) -> DataSet:
    return open_data(VocSettings(kind="voc", root=root, saliency="Saliency"), Path())


def inspected(data: DataSet, **options: object) -> Inspection:
    """With all masks and saliency maps."""
    return inspect(data, SPLITS, masks=SPLITS, saliency=SPLITS, **options)  # type: ignore[arg-type]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def test_whole_data(voc_root: Path) -> None:
    (voc_root / "image_labels.csv").write_text("id,cat,dog\na,1,0\nb,0,0\nc,1,1\nd,1,0\n")
    told: list[tuple[int, int]] = []
    found = inspected(opened(voc_root), progress=lambda done, of: told.append((done, of)))
    train = found.splits["train"]
    assert train.ids == ("a", "b", "c")
    assert train.untagged == ("b",)
    assert train.skipped == ()
    np.testing.assert_array_equal(train.sizes, [[40, 60]] * 3)
    assert told[-1] == (4, 4)
    again = Inspection.from_json(json.loads(json.dumps(found.to_json())))
    assert again.to_json() == found.to_json()
    np.testing.assert_array_equal(again.splits["train"].sizes, train.sizes)
    assert again.splits["train"].sizes.dtype == train.sizes.dtype


def test_all_problems_in_one_error(
    voc_root: Path, mask_of: Callable[[Path, Sequence[int], tuple[int, int]], None]
) -> None:
    cut(voc_root / "JPEGImages" / "a.jpg")
    mask_of(voc_root / "SegmentationClass" / "b.png", [0, 3], (40, 60))
    mask_of(voc_root / "SegmentationClass" / "c.png", [0], (41, 60))
    (voc_root / "Saliency" / "c.png").unlink()
    Image.fromarray(np.zeros((40, 60), np.uint16)).save(voc_root / "Saliency" / "d.png")
    with pytest.raises(DataError) as caught:
        inspected(opened(voc_root))
    lines = str(caught.value).splitlines()
    assert lines[0] == "voc: 5 problems with the data:"
    for part in (
        "JPEGImages/a.jpg: can't be decoded",
        "SegmentationClass/b.png: value 3 is no class's",
        "SegmentationClass/c.png: is 60×41",
        "Saliency: there is no saliency map of image 'c'",
        "Saliency/d.png: a saliency map must be 8-bit grey",
    ):
        assert sum(part in line for line in lines) == 1


def test_one_problem_is_one_line(voc_root: Path) -> None:
    (voc_root / "SegmentationClass" / "c.png").unlink()
    with pytest.raises(DataError, match=r"^[^\n]*SegmentationClass: there is no mask of image 'c'$"):
        inspected(opened(voc_root))


def test_masks_are_demanded_of_the_splits_alone_that_use_them(voc_root: Path) -> None:
    for image_id in "ac":
        (voc_root / "SegmentationClass" / f"{image_id}.png").unlink()
    data = opened(voc_root)
    assert data.has_masks("train")
    assert inspect(data, SPLITS, masks=["val"], saliency=SPLITS).splits["val"].ids == ("d",)
    with pytest.raises(DataError) as caught:
        inspect(data, SPLITS, masks=["train"])
    assert str(caught.value).splitlines() == [
        "voc: 2 problems with the data:",
        f"{voc_root}/SegmentationClass: there is no mask of image 'a'",
        f"{voc_root}/SegmentationClass: there is no mask of image 'c'",
    ]


def test_files_that_nothing_uses_are_not_opened(voc_root: Path) -> None:
    for folder in ("SegmentationClass", "Saliency"):
        for image_id in "abcd":
            (voc_root / folder / f"{image_id}.png").write_bytes(b"not an image")
    data = opened(voc_root)
    assert inspect(data, SPLITS).splits["train"].ids == ("a", "b", "c")
    with pytest.raises(DataError, match=r"SegmentationClass/d\.png: can't be decoded") as caught:
        inspect(data, SPLITS, masks=["val"])
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"Saliency/d\.png: can't be decoded") as caught:
        inspect(data, SPLITS, saliency=["val"])
    assert "\n" not in str(caught.value)


def test_masks_asked_for_where_there_are_none_at_all(voc_root: Path) -> None:
    data = open_data(VocSettings(kind="voc", root=voc_root), Path())
    with pytest.raises(DataError, match=r"^voc: there is no saliency map of image 'd'$"):
        inspect(data, SPLITS, saliency=["val"])


def test_skipping_lists_what_was_skipped(voc_root: Path) -> None:
    cut(voc_root / "JPEGImages" / "b.jpg")
    train = inspect(opened(voc_root), SPLITS, on_corrupt="skip").splits["train"]
    assert train.ids == ("a", "c")
    assert [one.image_id for one in train.skipped] == ["b"]
    assert "b.jpg: can't be decoded" in train.skipped[0].reason
    assert len(train.sizes) == 2


def test_a_damaged_mask_is_never_skipped(voc_root: Path) -> None:
    path = voc_root / "SegmentationClass" / "b.png"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"SegmentationClass/b\.png: can't be decoded"):
        inspected(opened(voc_root), on_corrupt="skip")


def test_nothing_left(voc_root: Path) -> None:
    cut(voc_root / "JPEGImages" / "d.jpg")
    with pytest.raises(DataError, match=r"no image of the split 'val' can be read; the first: .*d\.jpg"):
        inspected(opened(voc_root), on_corrupt="skip")


def test_an_image_that_vanished_after_opening(voc_root: Path) -> None:
    data = opened(voc_root)
    (voc_root / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"b\.jpg: there is no such file"):
        inspect(data, SPLITS)


def test_the_number_of_problems_shown_is_bounded(tmp_path: Path) -> None:
    class Broken(Scenes):
        def check(self, image_id: str, *, masks: bool, saliency: bool) -> object:
            found = super().check(image_id, masks=masks, saliency=saliency)
            return type(found)(found.size, None, (f"{image_id} is broken",))

    data = Broken(ScenesSettings(kind="scenes", train=50, val=0, height=64, width=64))
    with pytest.raises(DataError) as caught:
        inspect(data, ["train"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[1] == "train-000000 is broken"
    assert lines[-1] == "… and 30 more"


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_ranks_share_the_work(voc_root: Path, ranks: int) -> None:
    data = opened(voc_root)
    shares = [look(data, SPLITS, rank=rank, world_size=ranks) for rank in range(ranks)]
    assert sum(map(len, shares)) == 4
    merged = conclude(data, SPLITS, [finding for share in reversed(shares) for finding in share])
    assert merged.to_json() == inspect(data, SPLITS).to_json()


def test_real_photos(voc6: Path) -> None:
    limit = {"train": 60, "val": 60}
    settings = VocSettings.model_validate({"kind": "voc", "root": voc6, "saliency": "Saliency", "limit": limit})
    data = open_data(settings, Path())
    val = inspect(data, ["val"], masks=["val"], saliency=["val"]).splits["val"]
    assert val.ids == data.ids("val")
    assert [tuple(size) for size in val.sizes.tolist()] == [data.image(image_id).shape[:2] for image_id in val.ids]
