import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camshaft.engine.data import filesets, open_data
from camshaft.engine.data.dataset import DataSet
from camshaft.engine.data.voc import VOC_CLASSES, VocSettings
from camshaft.engine.errors import DataError, ImageError


def opened(root: Path, **settings: object) -> DataSet:
    return open_data(VocSettings.model_validate({"kind": "voc", "root": root.name, **settings}), root.parent)


def test_everything_of_a_small_folder(voc_root: Path) -> None:
    data = opened(voc_root, saliency="Saliency")
    assert data.name == "voc"
    assert data.classes == ("cat", "dog")
    assert data.file_values == (0, 8, 12)
    assert data.ids("train") == ("a", "b", "c")
    assert data.ids("val") == ("d",)
    np.testing.assert_array_equal(data.tags("train"), [[1, 0], [0, 1], [1, 1]])
    assert data.size("a") == (40, 60)
    assert data.image("a").shape == (40, 60, 3)
    assert data.has_masks("train")
    assert data.has_saliency("val")
    mask = data.mask("b")
    assert mask is not None
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask[0, [0, 30, 59]], [0, 2, 255])
    saliency = data.saliency("a")
    assert saliency is not None
    assert (saliency == 128).all()
    assert tuple(data.palette[8]) == (64, 0, 0)
    assert tuple(data.palette[15]) == (192, 128, 128)


def test_without_masks_and_saliency(voc_root: Path) -> None:
    for mask in (voc_root / "SegmentationClass").iterdir():
        mask.unlink()
    (voc_root / "SegmentationClass").rmdir()
    data = opened(voc_root)
    assert data.mask("a") is None
    assert data.saliency("a") is None
    assert not data.has_masks("train")
    assert not data.has_saliency("train")


def test_classes_in_use(voc_root: Path) -> None:
    data = opened(voc_root, classes=["dog"], other_values="void")
    assert data.file_values == (0, 12)
    np.testing.assert_array_equal(data.tags("train"), [[0], [1], [1]])
    mask = data.mask("c")
    assert mask is not None
    np.testing.assert_array_equal(mask[0, [0, 30, 59]], [0, 255, 1])
    background = opened(voc_root, classes=["dog"], other_values="background").mask("c")
    assert background is not None
    np.testing.assert_array_equal(background[0, [0, 30, 59]], [0, 0, 1])
    with pytest.raises(DataError, match=r"image_labels\.csv: knows no class 'cow'; there are cat, dog"):
        opened(voc_root, classes=["cow"])
    with pytest.raises(DataError, match="class 'dog' is named twice"):
        opened(voc_root, classes=["dog", "dog"])


def test_own_classes_have_values_from_one(voc_root: Path) -> None:
    (voc_root / "image_labels.csv").write_text("id,oak,elm\na,1,0\nb,0,1\nc,1,1\nd,1,0\n")
    assert opened(voc_root).file_values == (0, 1, 2)
    assert opened(voc_root, mask_values={"oak": 12, "elm": 8}).file_values == (0, 12, 8)
    for values, message in (
        ({"oak": 1}, "gives no value to class 'elm'"),
        ({"oak": 1, "elm": 1}, "must be different values"),
        ({"oak": 1, "elm": 255}, "must be different values of 0 … 254"),
        ({"oak": 1, "elm": 2, "ash": 3}, "names 'ash', which is no class"),
    ):
        with pytest.raises(DataError, match=message):
            opened(voc_root, mask_values=values)


def test_unknown_mask_value_is_named(
    voc_root: Path, mask_of: Callable[[Path, Sequence[int], tuple[int, int]], None]
) -> None:
    mask_of(voc_root / "SegmentationClass" / "a.png", [0, 8, 13], (40, 60))
    with pytest.raises(DataError, match=r"a\.png: value 13 is no class's; a mask here may hold 0, 8, 12, 255"):
        opened(voc_root).mask("a")


def test_mask_and_saliency_of_another_size(
    voc_root: Path, mask_of: Callable[[Path, Sequence[int], tuple[int, int]], None]
) -> None:
    mask_of(voc_root / "SegmentationClass" / "a.png", [0], (60, 40))
    with pytest.raises(ImageError, match=r"a\.png: is 40×60 \(width×height\), but its image a\.jpg is 60×40"):
        opened(voc_root).mask("a")
    Image.new("L", (30, 20)).save(voc_root / "Saliency" / "a.png")
    with pytest.raises(ImageError, match=r"Saliency/a\.png: is 30×20"):
        opened(voc_root, saliency="Saliency").saliency("a")


def test_missing_image_is_named_with_list_and_line(voc_root: Path) -> None:
    (voc_root / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"train\.txt, line 2: .*JPEGImages holds no image of 'b'"):
        opened(voc_root)


def test_two_files_of_one_id(voc_root: Path) -> None:
    Image.new("RGB", (4, 4)).save(voc_root / "JPEGImages" / "a.png")
    with pytest.raises(DataError, match=r"JPEGImages: a\.jpg and a\.png have the same id 'a'"):
        opened(voc_root)


def test_missing_parts(voc_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing: there is no such folder \(data\.root\)"):
        opened(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"mini\.txt: there is no such list; the folder holds train, val"):
        opened(voc_root, train="mini")
    with pytest.raises(DataError, match=r"list '\.\./train': '\.\./train' is not an id"):
        opened(voc_root, train="../train")
    with pytest.raises(DataError, match="Maps: can't be listed"):
        opened(voc_root, saliency="Maps")
    with pytest.raises(DataError, match=r"no split 'test'; there is train, val"):
        opened(voc_root).ids("test")
    with pytest.raises(DataError, match=r"no split 'val'"):
        opened(voc_root, val=None).tags("val")
    (voc_root / "image_labels.csv").unlink()
    with pytest.raises(DataError, match=r"holds neither image_labels\.csv nor Annotations"):
        opened(voc_root)
    with pytest.raises(DataError, match=r"labels\.txt: tags must be a \.csv"):
        opened(voc_root, tags="labels.txt")


def test_tags_from_annotations(voc_root: Path) -> None:
    (voc_root / "image_labels.csv").unlink()
    (voc_root / "Annotations").mkdir()
    for image_id, name in zip("abcd", ("cat", "dog", "bird", "cat"), strict=True):
        (voc_root / "Annotations" / f"{image_id}.xml").write_text(f"<a><object><name>{name}</name></object></a>")
    whole = opened(voc_root)
    assert whole.classes == VOC_CLASSES
    assert whole.file_values == tuple(range(21))
    assert whole.tags("train").sum() == 3
    two = opened(voc_root, classes=["dog", "cat"])
    np.testing.assert_array_equal(two.tags("train"), [[0, 1], [1, 0], [0, 0]])


def test_tags_from_arrays(voc_root: Path) -> None:
    tags = np.zeros((4, 20), np.uint8)
    tags[:, 7] = 1
    np.savez(voc_root / "cls_labels.npz", ids=np.array(list("abcd")), tags=tags)
    data = opened(voc_root, tags="cls_labels.npz")
    assert data.classes == VOC_CLASSES
    assert data.tags("train")[:, VOC_CLASSES.index("cat")].all()


def test_limit_is_balanced_and_the_same_every_time(voc6: Path) -> None:
    limit = {"train": 60, "val": 12}
    data = opened(voc6, limit=limit)
    assert len(data.ids("train")) == 60
    assert data.ids("train") == opened(voc6, limit=limit).ids("train")
    counts = dict(zip(data.classes, data.tags("train").sum(0).tolist(), strict=True))
    persons = counts.pop("person")  # they accompany all other classes
    assert max(counts.values()) - min(counts.values()) <= 1
    assert min(counts.values()) >= 10
    assert persons <= 30
    everything = opened(voc6)
    positions = [everything.ids("train").index(image_id) for image_id in data.ids("train")]
    assert positions == sorted(positions)
    np.testing.assert_array_equal(everything.tags("train")[positions], data.tags("train"))


def test_overlapping_splits_are_said(voc_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        opened(voc_root, val="train")
    assert "3 images are in both train and val (a …)" in caplog.text


def test_fingerprint_follows_ids_tags_and_files(voc_root: Path) -> None:
    first = opened(voc_root).fingerprint("train")
    assert opened(voc_root).fingerprint("train") == first
    assert opened(voc_root).fingerprint("val") != first
    (voc_root / "image_labels.csv").write_text("id,cat,dog\na,1,1\nb,0,1\nc,1,1\nd,1,0\n")
    second = opened(voc_root).fingerprint("train")
    Image.new("RGB", (60, 40)).save(voc_root / "JPEGImages" / "a.jpg")
    third = opened(voc_root).fingerprint("train")
    (voc_root / "ImageSets" / "Segmentation" / "train.txt").write_text("a\nb\n")
    fourth = opened(voc_root).fingerprint("train")
    assert len({first, second, third, fourth}) == 4


def test_a_data_set_s_files_are_looked_at_once_for_its_fingerprint(
    voc_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path | None] = []
    state_of = filesets.state_of
    monkeypatch.setattr(filesets, "state_of", lambda path: (seen.append(path), state_of(path))[1])
    data = opened(voc_root)
    first = data.fingerprint("train"), data.fingerprint("train", masks=True)
    count = len(seen)
    assert count == 3 * len(data.ids("train"))
    assert (data.fingerprint("train"), data.fingerprint("train", masks=True)) == first
    assert len(seen) == count


def test_fingerprint_follows_masks_and_saliency_where_they_are_used(
    voc_root: Path, mask_of: Callable[[Path, Sequence[int], tuple[int, int]], None]
) -> None:
    def of(**settings: object) -> tuple[str, str, str, str]:
        data = opened(voc_root, saliency="Saliency", **settings)
        return (
            data.fingerprint("train"),
            data.fingerprint("train", masks=True),
            data.fingerprint("train", saliency=True),
            data.fingerprint("train", masks=True, saliency=True),
        )

    def changed(before: tuple[str, ...], after: tuple[str, ...]) -> list[bool]:
        return [one != other for one, other in zip(before, after, strict=True)]

    first = of()
    assert len(set(first)) == 4
    assert of() == first
    assert changed(first, of(other_values="void")) == [False, True, False, True]
    assert changed(first, of(mask_values={"cat": 12, "dog": 8})) == [False, True, False, True]
    mask_of(voc_root / "SegmentationClass" / "b.png", [0, 12, 8, 0], (40, 60))
    second = of()
    assert changed(first, second) == [False, True, False, True]
    Image.new("L", (60, 40), 90).save(voc_root / "Saliency" / "c.png", compress_level=0)
    assert changed(second, of()) == [False, False, True, True]
    (voc_root / "SegmentationClass" / "d.png").unlink()  # of the other split
    assert of()[1] == second[1]


@pytest.mark.parametrize("path", ["../other", "/etc", "Maps/../../other"])
@pytest.mark.parametrize("key", ["tags", "saliency"])
def test_a_path_that_leaves_the_data_is_refused(voc_root: Path, key: str, path: str) -> None:
    with pytest.raises(DataError, match=rf"leaves the data set's folder; .*\(data\.{key}\)"):
        opened(voc_root, **{key: path})


def test_real_photos(voc6: Path) -> None:
    data = opened(voc6, saliency="Saliency")
    assert data.classes == ("cat", "cow", "dog", "horse", "person", "sheep")
    assert data.file_values == (0, 8, 10, 12, 13, 15, 17)
    for image_id in data.ids("val")[:10]:
        mask, saliency = data.mask(image_id), data.saliency(image_id)
        assert mask is not None
        assert saliency is not None
        assert data.image(image_id).shape[:2] == mask.shape == saliency.shape == data.size(image_id)
        present = set(np.unique(mask).tolist()) - {0, 255}
        assert present == {int(k) + 1 for k in np.flatnonzero(data.tags("val")[data.ids("val").index(image_id)])}
