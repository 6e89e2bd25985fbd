"""MS COCO: images in a folder for each split, tags and masks from its instances JSON.

How masks for semantic segmentation follow from instances is not part of the data. The defaults are those of the script
coco2voc (alicranck/coco2voc), which AFA's code names: crowds are their class, and where instances overlap the one of
the smaller area is on top. Tags name crowds too. Images without any annotation are part of the data (82,783 and 40,504
in 2014), unless `untagged: leave_out` says otherwise.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from camshaft.engine.data.coco_index import open_index, read_entry
from camshaft.engine.data.coco_masks import Outline, draw
from camshaft.engine.data.dataset import digest
from camshaft.engine.data.filesets import (
    MASK_SUFFIXES,
    SALIENCY_SUFFIXES,
    FileDataSet,
    Files,
    FileSettings,
    Folder,
    below,
    state_of,
)
from camshaft.engine.data.images import IMAGE_SUFFIXES
from camshaft.engine.errors import DataError
from camshaft.engine.stores import VOID
from camshaft.engine.stores.names import check_id


class CocoSettings(FileSettings):
    """A folder in COCO's layout: train2014, val2014, annotations/instances_train2014.json …"""

    kind: Literal["coco"]
    """COCO's layout."""
    train: str = "train2014"
    """The training images: a folder of root, and the end of their file's name in annotations."""
    val: str | None = "val2014"
    """The held-out images, alike; null: none."""
    annotations: str = "annotations"
    """Folder of instances_NAME.json, relative to root."""
    masks: str | None = None
    """Folder with a folder of PNGs for each of train and val, relative to root, named like the images or by image id;
    null: masks are drawn from the annotations."""
    values: Literal["order", "category_id"] = "order"
    """Values of classes in mask files: 1 … 80 in the order of category ids, or these ids themselves (1 … 90)."""
    crowd: Literal["class", "void", "background"] = "class"
    """What regions marked as crowds are in masks drawn from annotations; as void they lie below all objects."""
    overlap: Literal["smallest", "last"] = "smallest"
    """Which of overlapping instances is on top: that of the smallest area, or the last annotation."""
    untagged: Literal["keep", "leave_out"] = "keep"
    """Whether images without any of the classes take part."""
    saliency: str | None = None
    """Folder with a folder of 8-bit saliency maps for each of train and val, relative to root; null: none."""

    @model_validator(mode="after")
    def _every_setting_counts(self) -> Self:
        if self.masks is not None and (drawn := self.changed("crowd", "overlap")):
            raise ValueError(f"{' and '.join(drawn)} can't be used with masks, which are drawn already")
        if self.mask_values is not None and self.values != "order":
            raise ValueError("values can't be used with mask_values, which give each class its own")
        return self


def open_coco(settings: CocoSettings, base: Path) -> "CocoDataSet":
    """Open COCO, or data in its format.

    Args:
        settings: as the recipe states them.
        base: the folder that a relative `root` starts from.

    Raises:
        DataError: something named by the settings is missing or malformed; the message names file and entry.
    """
    root = settings.folder(base)
    annotations = below(root, settings.annotations, "annotations")
    parts = {}
    for split, name in (("train", settings.train), ("val", settings.val)):
        if name is not None:
            check_id(name, f"{root}: data.{split}", DataError)
            parts[split] = _Part(root, name, annotations / f"instances_{name}.json")
    known = parts["train"].names
    if "val" in parts and parts["val"].names != known:
        raise DataError(f"{parts['val'].path}: has other categories than {parts['train'].path}")
    if unknown := [name for name in settings.classes or () if name not in known]:
        raise DataError(f"{parts['train'].path}: knows no class {unknown[0]!r}; there are {', '.join(known)}")
    return CocoDataSet(root, settings, parts)


class _Part:
    """The images of one split: their annotations, and their ids in the order of the file."""

    def __init__(self, root: Path, name: str, path: Path) -> None:
        self.path, self.name = path, name
        self.index = index = open_index(path)
        self.names = tuple(index.category_names.tolist())
        self.folder = Folder(root / name, IMAGE_SUFFIXES)
        self.ids = tuple(self._id(number, file) for number, file in enumerate(index.file_names.tolist()))
        if len(set(self.ids)) < len(self.ids):
            raise DataError(f"{path}: two images have one file name")
        if missing := [image_id for image_id in self.ids if image_id not in self.folder]:
            more = f" (nor of {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise DataError(f"{path}: {self.folder.path} holds no image of {missing[0]!r}{more}")
        self.rows = {image_id: row for row, image_id in enumerate(self.ids)}

    def _id(self, number: int, file: str) -> str:
        name, suffix = os.path.splitext(file)  # noqa: PTH122 - pathlib is slow for 100,000 files
        if suffix.lower() not in IMAGE_SUFFIXES:
            raise DataError(f"{self.path}: images[{number}]: {file!r} is no image's file name")
        check_id(name, f"{self.path}: images[{number}]", DataError)
        return name

    def found(self, folder: Folder) -> dict[str, Path]:
        """The files of `folder` that belong to this split's images: of the same name, or named by the image's id."""
        files = {}
        for image_id, number in zip(self.ids, self.index.image_ids.tolist(), strict=True):
            for name in (image_id, f"{number:012d}", str(number)):
                if (file := folder.file(name)) is not None:
                    files[image_id] = file
                    break
        return files


class CocoDataSet(FileDataSet):
    """COCO; masks are drawn when they are asked for, unless there is a folder of them."""

    def __init__(self, root: Path, settings: CocoSettings, parts: Mapping[str, _Part]) -> None:
        """Use `open_coco`.

        Raises:
            DataError: one id in two splits, no image left in a split, or mask values that are not what they must be.
        """
        names = parts["train"].names
        classes = settings.classes or names
        columns = [names.index(name) for name in classes]
        values = np.arange(len(names)) + 1 if settings.values == "order" else parts["train"].index.category_ids
        super().__init__(
            root.name,
            classes,
            {split: _images_of(part, columns, settings) for split, part in parts.items()},
            settings,
            images=_joined(root, parts, {split: part.folder for split, part in parts.items()}),
            masks=_beside(root, settings.masks, "masks", MASK_SUFFIXES, parts),
            saliency=_beside(root, settings.saliency, "saliency", SALIENCY_SUFFIXES, parts),
            default_values=(0, *(int(values[column]) for column in columns)),
        )
        self._settings, self._parts = settings, parts
        self._part_of = {image_id: part for part in parts.values() for image_id in part.ids}
        other = {"error": -1, "void": VOID, "background": 0}[settings.other_values]
        self._label_of = np.full(len(names), other, np.int64)
        self._label_of[columns] = np.arange(len(columns)) + 1

    def has_masks(self, split: str) -> bool:
        """See `DataSet.has_masks`."""
        return super().has_masks(split) if self._settings.masks is not None else bool(self.ids(split))

    def mask(self, image_id: str) -> NDArray[np.uint8] | None:
        """See `DataSet.mask`; drawn from the annotations unless there is a folder of masks."""
        if self._settings.masks is not None:
            return super().mask(image_id)
        part = self._part_of.get(image_id)
        if part is None:
            return None
        row = part.rows[image_id]
        height, width = part.index.sizes[row].tolist()
        self._check_size(image_id, part.path, (height, width))
        outlines = self._outlines(part, row)
        try:
            return draw(outlines, height, width, smallest_on_top=self._settings.overlap == "smallest")
        except ValueError as error:
            raise DataError(f"{part.path}: image {image_id!r}: {error}") from None

    def fingerprint(self, split: str, *, masks: bool = False, saliency: bool = False) -> str:
        """See `DataSet.fingerprint`: where masks are drawn, also the annotations' size and time, and the rules."""
        files = super().fingerprint(split, masks=masks, saliency=saliency)
        if not masks or self._settings.masks is not None:
            return files
        settings = self._settings
        return digest([files, state_of(self._parts[split].path), settings.crowd, settings.overlap, str(self._label_of)])

    def _outlines(self, part: _Part, row: int) -> list[Outline]:
        """The annotations of an image, as they are to be drawn."""
        index = part.index
        outlines = []
        file = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for number in index.of_image(row):
                crowd = bool(index.crowd[number])
                if crowd and self._settings.crowd == "background":
                    continue
                entry = _entry(part, file, number)
                label = int(self._label_of[index.categories[number]])
                if label < 0:
                    name = part.names[index.categories[number]]
                    raise DataError(
                        f"{part.path}: annotation {index.annotation_ids[number]} is of {name!r}, which is no class in "
                        "use; say what it means by data.other_values"
                    )
                void = crowd and self._settings.crowd == "void"
                area = float(index.areas[number])
                outlines.append(Outline(entry.get("segmentation"), VOID if void else label, area, void))
        finally:
            os.close(file)
        return outlines


def _entry(part: _Part, file: int, number: int) -> Mapping[str, object]:
    start, length = part.index.places[number].tolist()
    image = part.index.image_ids[part.index.images[number]]
    with suppress(ValueError):
        entry = read_entry(file, start, length)
        if isinstance(entry, dict) and entry.get("image_id") == image:
            return entry
    raise DataError(f"{part.path}: was changed while it was in use; run again")


def _images_of(
    part: _Part, columns: Sequence[int], settings: CocoSettings
) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    tags = part.index.tags()[:, columns]
    if settings.untagged == "keep":
        return part.ids, tags
    kept = np.flatnonzero(tags.any(1))
    if not len(kept):
        raise DataError(f"{part.path}: no image has any of the classes")
    return tuple(part.ids[row] for row in kept), tags[kept]


def _beside(
    root: Path, relative: str | None, key: str, suffixes: Sequence[str], parts: Mapping[str, _Part]
) -> Files | None:
    """The files of a folder with a folder for each split."""
    if relative is None:
        return None
    path = below(root, relative, key)
    folders = {
        split: Folder(path / part.name, suffixes) for split, part in parts.items() if (path / part.name).is_dir()
    }
    if not folders:
        raise DataError(f"{path}: holds no folder {' or '.join(part.name for part in parts.values())} (data.{key})")
    return _joined(path, parts, folders)


def _joined(path: Path, parts: Mapping[str, _Part], folders: Mapping[str, Folder]) -> Files:
    """The files of several folders in `path`."""
    names: dict[str, str] = {}
    for split, folder in folders.items():
        for image_id, file in parts[split].found(folder).items():
            name = f"{folder.path.name}/{file.name}"
            if names.setdefault(image_id, name) != name:
                raise DataError(f"{path / names[image_id]} and {file} have the same id {image_id!r}")
    return Files(path, names)
