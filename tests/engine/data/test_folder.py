from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camshaft.engine.data import open_data
from camshaft.engine.data.dataset import DataSet
from camshaft.engine.data.folder import FolderSettings
from camshaft.engine.errors import DataError


@pytest.fixture
def root(tmp_path: Path, photo: Callable[..., Path]) -> Path:
    """Ten images of several kinds with tags by name."""
    folder = tmp_path / "mine"
    rows = ["image,tags"]
    for k in range(10):
        suffix = ("jpg", "png", "JPG", "webp")[k % 4]
        photo(folder / "images" / f"photo {k}.{suffix}")
        rows.append(f"photo {k}.{suffix},{('oak', 'elm', 'oak;elm', '')[k % 4]}")
    (folder / "tags.csv").write_text("\n".join(rows) + "\n")
    return folder


def opened(root: Path, **settings: object) -> DataSet:
    return open_data(FolderSettings.model_validate({"kind": "folder", "root": str(root), **settings}), Path("/nowhere"))


def test_images_and_tags_suffice(root: Path) -> None:
    data = opened(root)
    assert data.classes == ("elm", "oak")
    assert len(data.ids("train")) == 8
    assert len(data.ids("val")) == 2
    assert sorted(data.ids("train") + data.ids("val")) == sorted(f"photo {k}" for k in range(10))
    assert data.image("photo 3").shape == (40, 60, 3)
    assert data.mask("photo 3") is None
    assert not data.has_masks("train")
    assert opened(root).ids("val") == data.ids("val")
    assert any(opened(root, split_seed=seed).ids("val") != data.ids("val") for seed in range(1, 6))


def test_masks_and_saliency_are_found(root: Path) -> None:
    for folder in ("masks", "saliency"):
        (root / folder).mkdir()
        for k in range(10):
            Image.new("L", (60, 40), 2 if folder == "masks" else 200).save(root / folder / f"photo {k}.png")
    data = opened(root)
    mask = data.mask("photo 0")
    assert mask is not None
    assert (mask == 2).all()
    assert data.has_saliency("val")
    own = opened(root, mask_values={"oak": 2, "elm": 7}).mask("photo 0")
    assert own is not None
    assert (own == 2).all()  # oak is the second class


def test_listed_validation(root: Path) -> None:
    (root / "held_out.txt").write_text("photo 7\nphoto 2\n")
    data = opened(root, val_list="held_out.txt")
    assert data.ids("val") == ("photo 2", "photo 7")
    (root / "held_out.txt").write_text("photo 7\nphoto 77\n")
    with pytest.raises(DataError, match=r"held_out\.txt, line 2: .*images holds no image of 'photo 77'"):
        opened(root, val_list="held_out.txt")


def test_a_list_and_a_drawing_exclude_each_other(root: Path) -> None:
    (root / "held_out.txt").write_text("photo 7\n")
    with pytest.raises(ValueError, match="val_fraction can't be used with val_list"):
        opened(root, val_list="held_out.txt", val_fraction=0.5)
    with pytest.raises(ValueError, match="val_fraction and split_seed can't be used with val_list"):
        opened(root, val_list="held_out.txt", val_fraction=0.5, split_seed=3)
    stated = FolderSettings(kind="folder", root=root, val_list="held_out.txt")
    assert FolderSettings.model_validate(stated.model_dump(mode="json")) == stated


@pytest.mark.parametrize("path", ["../held_out.txt", "/held_out.txt"])
@pytest.mark.parametrize("key", ["tags", "val_list"])
def test_a_path_that_leaves_the_data_is_refused(root: Path, key: str, path: str) -> None:
    (root.parent / "held_out.txt").write_text("photo 7\n")
    with pytest.raises(DataError, match=rf"leaves the data set's folder; .*\(data\.{key}\)"):
        opened(root, **{key: path})


def test_no_validation(root: Path) -> None:
    data = opened(root, val_fraction=0)
    assert len(data.ids("train")) == 10
    with pytest.raises(DataError, match="no split 'val'"):
        data.ids("val")


def test_a_column_a_class(root: Path) -> None:
    rows = ["id,oak,elm,ash", *(f"photo {k},{k % 2},1,0" for k in range(10))]
    (root / "tags.csv").write_text("\n".join(rows))
    assert opened(root).classes == ("oak", "elm", "ash")
    assert opened(root, classes=["elm", "oak"]).classes == ("elm", "oak")


def test_row_without_image_and_image_without_row(root: Path) -> None:
    table = root / "tags.csv"
    whole = table.read_text()
    table.write_text(whole + "photo 10,oak\n")
    with pytest.raises(DataError, match=r"tags\.csv, line 12: .*images holds no image of 'photo 10'"):
        opened(root)
    table.write_text("\n".join(whole.splitlines()[:-2]) + "\n")
    with pytest.raises(DataError, match=r"images/photo 8\.jpg \(and 1 more\): has no row in .*tags\.csv"):
        opened(root)


def test_unknown_class(root: Path) -> None:
    with pytest.raises(DataError, match=r"tags\.csv, line 2: unknown class 'oak'; classes are elm, ash"):
        opened(root, classes=["elm", "ash"])


def test_nothing_to_work_with(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: there is no such folder"):
        opened(tmp_path / "none")
    (tmp_path / "empty" / "images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"images: holds no images"):
        opened(tmp_path / "empty")
    (root / "tags.csv").write_text("\n".join(["image,tags", *(f"photo {k}," for k in range(10))]))
    with pytest.raises(DataError, match=r"tags\.csv: names no class"):
        opened(root)
    (root / "tags.csv").unlink()
    with pytest.raises(DataError, match=r"tags\.csv: there is no such file"):
        opened(root)


def test_tags_line_up_with_ids(root: Path) -> None:
    data = opened(root)
    for split in ("train", "val"):
        for image_id, row in zip(data.ids(split), data.tags(split), strict=True):
            k = int(image_id.split()[1]) % 4
            np.testing.assert_array_equal(row, [k in (1, 2), k in (0, 2)])


def test_limit(root: Path) -> None:
    data = opened(root, limit={"train": 3})
    assert len(data.ids("train")) == 3
    assert data.tags("train").any(1).all()
