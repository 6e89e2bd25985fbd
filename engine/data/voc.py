"""Data sets in PASCAL VOC's folder layout."""

import logging
from pathlib import Path
from typing import Literal

from camshaft.engine.data.filesets import (
    MASK_SUFFIXES,
    SALIENCY_SUFFIXES,
    FileDataSet,
    FileSettings,
    Folder,
    below,
)
from camshaft.engine.data.images import IMAGE_SUFFIXES
from camshaft.engine.data.lists import named_list, read_ids
from camshaft.engine.data.tags import TagTable, read_array_tags, read_csv_tags, read_xml_tags
from camshaft.engine.errors import DataError

logger = logging.getLogger(__name__)

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""VOC's classes; the k-th (from 1) has value k in its masks."""

TAGS_FILE = "image_labels.csv"


class VocSettings(FileSettings):
    """A folder in VOC's layout: JPEGImages, ImageSets/Segmentation, SegmentationClass (optional), and tags."""

    kind: Literal["voc"]
    """VOC layout."""
    train: str = "train"
    """List of the training images: a name in ImageSets/Segmentation."""
    val: str | None = "val"
    """List of the held-out images; null: none."""
    tags: str = "auto"
    """Image-level tags: a .csv, .npz or .npy file or a folder of XML annotations, relative to root; auto:
    image_labels.csv if there is one, else Annotations."""
    saliency: str | None = None
    """Folder of 8-bit saliency maps, relative to root; null: none."""


def open_voc(settings: VocSettings, base: Path) -> FileDataSet:
    """Open a data set in VOC's layout.

    Args:
        settings: as the recipe states them.
        base: the folder that a relative `root` starts from.

    Raises:
        DataError: something named by the settings is missing or malformed; the message names file and line.
    """
    root = settings.folder(base)
    lists = root / "ImageSets" / "Segmentation"
    list_files = {"train": named_list(lists, settings.train)}
    if settings.val is not None:
        list_files["val"] = named_list(lists, settings.val)
    listed = {split: read_ids(path) for split, path in list_files.items()}
    if shared := set(listed["train"]) & set(listed.get("val", ())):
        logger.warning("%s: %d images are in both train and val (%s …)", root, len(shared), min(shared))
    table = _tags(settings, root, list({image_id: 0 for lines in listed.values() for image_id in lines}))
    classes = settings.classes or table.classes
    images = Folder(root / "JPEGImages", IMAGE_SUFFIXES)
    splits = {}
    for split, lines in listed.items():
        if missing := [image_id for image_id in lines if image_id not in images]:
            place = f"{list_files[split]}, line {lines[missing[0]]}"
            more = f" (nor of {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise DataError(f"{place}: {images.path} holds no image of {missing[0]!r}{more}")
        ids = tuple(lines)
        splits[split] = (ids, table.matrix(ids, classes))
    masks = root / "SegmentationClass"
    return FileDataSet(
        root.name,
        classes,
        splits,
        settings,
        images=images,
        masks=Folder(masks, MASK_SUFFIXES) if masks.is_dir() else None,
        saliency=_saliency(settings, root),
        default_values=_voc_values(classes),
    )


def _saliency(settings: VocSettings, root: Path) -> Folder | None:
    if settings.saliency is None:
        return None
    return Folder(below(root, settings.saliency, "saliency"), SALIENCY_SUFFIXES)


def _tags(settings: VocSettings, root: Path, ids: list[str]) -> TagTable:
    if settings.tags != "auto":
        path = below(root, settings.tags, "tags")
    else:
        path = root / TAGS_FILE if (root / TAGS_FILE).is_file() else root / "Annotations"
        if not path.exists():
            raise DataError(f"{root}: holds neither {TAGS_FILE} nor Annotations; name the tags' file (data.tags)")
    names = settings.classes or VOC_CLASSES
    if path.suffix == ".csv":
        return read_csv_tags(path, settings.classes)
    if path.suffix in (".npz", ".npy"):
        return read_array_tags(path, names)
    if not path.is_dir():
        raise DataError(f"{path}: tags must be a .csv, .npz or .npy file or a folder of XML annotations (data.tags)")
    # Objects of VOC classes that are not in use are passed over; with a user's own classes every other name is.
    return read_xml_tags(path, ids, VOC_CLASSES if set(names) <= set(VOC_CLASSES) else None)


def _voc_values(classes: tuple[str, ...]) -> tuple[int, ...] | None:
    if not set(classes) <= set(VOC_CLASSES):
        return None
    return (0, *(VOC_CLASSES.index(name) + 1 for name in classes))
