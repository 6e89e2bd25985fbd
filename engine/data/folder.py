"""A user's own data: a folder of images and a table of their tags."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from camshaft.engine.data.filesets import MASK_SUFFIXES, SALIENCY_SUFFIXES, FileDataSet, FileSettings, Folder, below
from camshaft.engine.data.images import IMAGE_SUFFIXES
from camshaft.engine.data.lists import read_ids
from camshaft.engine.data.tags import TagTable, read_csv_tags
from camshaft.engine.errors import DataError
from camshaft.engine.runtime.seeds import derive


class FolderSettings(FileSettings):
    """A folder with images/, tags.csv and, where there are any, masks/ and saliency/."""

    kind: Literal["folder"]
    """A user's own images and tags."""
    tags: str = "tags.csv"
    """Table of tags, relative to root: a column a class (id,cat,dog) or names (image,tags with ";" between names)."""
    val_list: str | None = None
    """Text file, relative to root, with the ids of the held-out images, one a line; null: a fraction is drawn."""
    val_fraction: float = Field(0.2, ge=0, lt=1)
    """Fraction of the images held out where there is no list."""
    split_seed: int = 0
    """Seed of that drawing."""

    @model_validator(mode="after")
    def _one_way_to_hold_out(self) -> Self:
        if self.val_list is not None and (stated := self.changed("val_fraction", "split_seed")):
            raise ValueError(f"{' and '.join(stated)} can't be used with val_list, which says what is held out")
        return self


def open_folder(settings: FolderSettings, base: Path) -> FileDataSet:
    """Open a user's own data.

    Args:
        settings: as the recipe states them.
        base: the folder that a relative `root` starts from.

    Raises:
        DataError: an image without a row, a row without an image, an unknown class …; names file and line.
    """
    root = settings.folder(base)
    images = Folder(root / "images", IMAGE_SUFFIXES)
    if not images.ids:
        raise DataError(f"{images.path}: holds no images ({', '.join(IMAGE_SUFFIXES)})")
    table = read_csv_tags(below(root, settings.tags, "tags"), settings.classes)
    _check_pairs(table, images)
    if not table.classes:
        raise DataError(f"{table.source}: names no class")
    classes = settings.classes or table.classes
    held_out = _held_out(settings, root, images.ids)
    splits = {}
    for split in ("train", "val"):
        ids = tuple(image_id for image_id in images.ids if (image_id in held_out) == (split == "val"))
        if ids:
            splits[split] = (ids, table.matrix(ids, classes))
    return FileDataSet(
        root.name,
        classes,
        splits,
        settings,
        images=images,
        masks=Folder(root / "masks", MASK_SUFFIXES) if (root / "masks").is_dir() else None,
        saliency=Folder(root / "saliency", SALIENCY_SUFFIXES) if (root / "saliency").is_dir() else None,
    )


def _check_pairs(table: TagTable, images: Folder) -> None:
    for image_id, place in table.where.items():
        if image_id not in images:
            raise DataError(f"{place}: {images.path} holds no image of {image_id!r}")
    if bare := [image_id for image_id in images.ids if image_id not in table.present]:
        more = f" (and {len(bare) - 1} more)" if len(bare) > 1 else ""
        raise DataError(
            f"{images.file(bare[0])}{more}: has no row in {table.source}; an image without any class has a row too"
        )


def _held_out(settings: FolderSettings, root: Path, ids: Sequence[str]) -> set[str]:
    if settings.val_list is None:
        order = sorted(ids, key=lambda image_id: derive("split", settings.split_seed, image_id))
        return set(order[: round(settings.val_fraction * len(ids))])
    path = below(root, settings.val_list, "val_list")
    listed = read_ids(path)
    known = set(ids)
    for image_id, line in listed.items():
        if image_id not in known:
            raise DataError(f"{path}, line {line}: {root / 'images'} holds no image of {image_id!r}")
    return set(listed)
