"""What data sets in folders share: settings, files found by id, masks' values mapped to classes, fingerprints."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from camshaft.engine.data.dataset import Checked, DataSet, balanced_subset, digest, repetitions
from camshaft.engine.data.images import (
    IMAGE_SUFFIXES,
    read_image,
    read_mask,
    read_saliency,
    read_size,
    scan_image,
)
from camshaft.engine.errors import DataError, ImageError
from camshaft.engine.recipe.paths import RecipePath
from camshaft.engine.recipe.settings import Settings
from camshaft.engine.stores import VOID

MASK_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff")
SALIENCY_SUFFIXES = IMAGE_SUFFIXES
_UNKNOWN = 254


class SplitSizes(Settings):
    """A number for each split; null: no limit."""

    train: int | None = Field(None, ge=1)
    """Images of the split train."""
    val: int | None = Field(None, ge=1)
    """Images of the split val."""

    def of(self, split: str) -> int | None:
        """The split's number."""
        return {"train": self.train, "val": self.val}[split]


class FileSettings(Settings):
    """What data sets in folders have in common."""

    root: Annotated[Path, RecipePath()]
    """The data set's folder; relative to the recipe's folder."""
    classes: tuple[str, ...] | None = Field(None, min_length=1)
    """Classes in use, in this order; null: all that the tags know."""
    mask_values: dict[str, int] | None = None
    """Value in mask files by class name; null: VOC's own values if the layout and all classes are VOC's, else 1, 2 …"""
    other_values: Literal["error", "void", "background"] = "error"
    """What mask values of no class in use mean."""
    limit: SplitSizes | None = None
    """Use only so many images of each split, balanced over the classes, always the same."""
    on_corrupt: Literal["fail", "skip"] = "fail"
    """What an image that can't be read does: stop the run before it starts, or be left out and listed."""

    def folder(self, base: Path) -> Path:
        """`root`, seen from the recipe's folder `base`.

        Raises:
            DataError: there is no such folder.
        """
        root = (base / self.root.expanduser()).resolve()
        if not root.is_dir():
            raise DataError(f"{root}: there is no such folder (data.root)")
        return root


def below(root: Path, relative: str, key: str) -> Path:
    """The file or folder `relative` of the data set in `root`.

    Raises:
        DataError: it would leave `root` (links in it may lead elsewhere); names the settings' key `data.<key>`.
    """
    path = PurePath(relative)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{root}: {relative!r} leaves the data set's folder; it must be a path inside it (data.{key})")
    return root / path


class Files:
    """Image files by id."""

    def __init__(self, path: Path, names: Mapping[str, str]) -> None:
        """Take the folder in or below which all are, and each id's file, relative to it."""
        self.path = path
        self._names = names

    def __contains__(self, image_id: str) -> bool:
        """True if there is a file of this id."""
        return image_id in self._names

    @property
    def ids(self) -> tuple[str, ...]:
        """All ids, sorted by file name."""
        return tuple(self._names)

    def file(self, image_id: str) -> Path | None:
        """The file of an id, or None."""
        name = self._names.get(image_id)
        return None if name is None else self.path / name


class Folder(Files):
    """The image files of one folder; an id is the file's name without its suffix."""

    def __init__(self, path: Path, suffixes: Sequence[str]) -> None:
        """List `path` once.

        Raises:
            DataError: it can't be listed, or two files have one id.
        """
        try:
            listed = sorted(os.listdir(path))  # noqa: PTH208 - see below
        except OSError as error:
            raise DataError(f"{path}: can't be listed: {error.strerror}") from error
        names: dict[str, str] = {}
        for name in listed:
            stem, suffix = os.path.splitext(name)  # noqa: PTH122 - pathlib is slow for 100,000 files
            if suffix.lower() not in suffixes or name.startswith("."):
                continue
            if stem in names:
                raise DataError(f"{path}: {names[stem]} and {name} have the same id {stem!r}")
            names[stem] = name
        super().__init__(path, names)


class FileDataSet(DataSet):
    """A data set whose images, masks and saliency maps are files named by id, one folder each."""

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        splits: Mapping[str, tuple[tuple[str, ...], NDArray[np.uint8]]],
        settings: FileSettings,
        *,
        images: Files,
        masks: Files | None,
        saliency: Files | None,
        default_values: Sequence[int] | None = None,
    ) -> None:
        """Keep the parts.

        Args:
            name: for messages and reports.
            classes: names of the C classes.
            splits: ids and (N, C) tags of each split.
            settings: of which masks' values and limits are used.
            images: the images.
            masks: the masks, if there are any.
            saliency: the saliency maps, if there are any.
            default_values: file values of background and classes unless the settings map them; default: 0 … C.

        Raises:
            DataError: classes or their values are not what they must be.
        """
        super().__init__(name, classes, _class_values(name, classes, settings.mask_values, default_values))
        self._splits = {split: _limited(*images_of, split, settings.limit) for split, images_of in splits.items()}
        self._images, self._masks, self._saliency = images, masks, saliency
        self._sizes: dict[str, tuple[int, int]] = {}
        self._fingerprints: dict[tuple[str, bool, bool], str] = {}
        self._class_of = np.full(
            256, {"error": _UNKNOWN, "void": VOID, "background": 0}[settings.other_values], np.uint8
        )
        self._class_of[VOID] = VOID
        self._class_of[list(self.file_values)] = np.arange(len(self.file_values), dtype=np.uint8)

    def ids(self, split: str) -> tuple[str, ...]:
        """See `DataSet.ids`."""
        return self._split(split)[0]

    def tags(self, split: str) -> NDArray[np.uint8]:
        """See `DataSet.tags`."""
        return self._split(split)[1].copy()

    def size(self, image_id: str) -> tuple[int, int]:
        """See `DataSet.size`."""
        if image_id not in self._sizes:
            self._sizes[image_id] = read_size(self._image_file(image_id))
        return self._sizes[image_id]

    def image(self, image_id: str, *, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """See `DataSet.image`."""
        return read_image(self._image_file(image_id), at_least)

    def encoded(self, image_id: str) -> bytes | None:
        """See `DataSet.encoded`."""
        try:
            return self._image_file(image_id).read_bytes()
        except (OSError, ImageError):
            return None

    def mask(self, image_id: str) -> NDArray[np.uint8] | None:
        """See `DataSet.mask`."""
        path = self._masks.file(image_id) if self._masks is not None else None
        if path is None:
            return None
        values = read_mask(path)
        self._check_size(image_id, path, values.shape)
        mask = self._class_of[values]
        if (unknown := mask == _UNKNOWN).any():
            found = ", ".join(map(str, np.unique(values[unknown])[:5]))
            known = ", ".join(map(str, sorted({*self.file_values, VOID})))
            raise DataError(f"{path}: value {found} is no class's; a mask here may hold {known}")
        return mask

    def saliency(self, image_id: str) -> NDArray[np.uint8] | None:
        """See `DataSet.saliency`."""
        path = self._saliency.file(image_id) if self._saliency is not None else None
        if path is None:
            return None
        values = read_saliency(path)
        self._check_size(image_id, path, values.shape)
        return values

    def has_masks(self, split: str) -> bool:
        """See `DataSet.has_masks`."""
        return self._masks is not None and any(image_id in self._masks for image_id in self.ids(split))

    def has_saliency(self, split: str) -> bool:
        """See `DataSet.has_saliency`."""
        return self._saliency is not None and any(image_id in self._saliency for image_id in self.ids(split))

    def fingerprint(self, split: str, *, masks: bool = False, saliency: bool = False) -> str:
        """See `DataSet.fingerprint`: ids, tags, and each file's name, size and time of change when first asked for."""
        key = (split, masks, saliency)
        if key not in self._fingerprints:
            self._fingerprints[key] = self._fingerprint(*key)
        return self._fingerprints[key]

    def _fingerprint(self, split: str, masks: bool, saliency: bool) -> str:
        ids, tags = self._split(split)
        parts: list[str | bytes] = ["\n".join(self.classes), tags.tobytes(), *ids]
        if masks:
            parts += [repr(self.file_values), self._class_of.tobytes()]
        wanted = {"images": self._images, "masks": self._masks if masks else None}
        wanted["saliency"] = self._saliency if saliency else None
        for kind, folder in wanted.items():
            if folder is not None:
                parts += [kind, *(state_of(folder.file(image_id)) for image_id in ids)]
        return digest(parts)

    def check(self, image_id: str, *, masks: bool, saliency: bool) -> Checked:
        """See `DataSet.check`; a JPEG is read in full but not decoded in full."""
        try:
            size = self._sizes[image_id] = scan_image(self._image_file(image_id))
        except DataError as error:
            return Checked(None, str(error), ())
        problems = []
        for read, folder, needed, what in (
            (self.mask, self._masks, masks, "mask"),
            (self.saliency, self._saliency, saliency, "saliency map"),
        ):
            try:
                if needed and read(image_id) is None:
                    place = self.name if folder is None else folder.path
                    problems.append(f"{place}: there is no {what} of image {image_id!r}")
            except DataError as error:
                problems.append(str(error))
        return Checked(size, None, tuple(problems))

    def _split(self, split: str) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
        if split not in self._splits:
            raise DataError(f"{self.name}: no split {split!r}; there is {', '.join(self._splits) or 'none'}")
        return self._splits[split]

    def _image_file(self, image_id: str) -> Path:
        path = self._images.file(image_id)
        if path is None:
            raise ImageError(f"{self._images.path}: there is no image of {image_id!r} ({image_id}.jpg, .png …)")
        return path

    def _check_size(self, image_id: str, path: Path, shape: tuple[int, ...]) -> None:
        height, width = self.size(image_id)
        if shape != (height, width):
            image = self._image_file(image_id).name
            raise ImageError(
                f"{path}: is {shape[1]}×{shape[0]} (width×height), but its image {image} is {width}×{height}"
            )


def _class_values(
    name: str, classes: Sequence[str], mapping: Mapping[str, int] | None, default: Sequence[int] | None
) -> tuple[int, ...] | None:
    """Values in mask files of the background and each class; None: 0 … C."""
    if mapping is None:
        return tuple(default) if default is not None else None
    for key in mapping:
        if key not in (*classes, "background"):
            raise DataError(f"{name}: mask_values names {key!r}, which is no class; classes are {', '.join(classes)}")
    for key in classes:
        if key not in mapping:
            raise DataError(f"{name}: mask_values gives no value to class {key!r}")
    values = (mapping.get("background", 0), *(mapping[key] for key in classes))
    if any(not 0 <= value < VOID for value in values) or repetitions(values):
        raise DataError(f"{name}: mask_values must be different values of 0 … 254 (255 is void), not {values}")
    return values


def _limited(
    ids: tuple[str, ...], tags: NDArray[np.uint8], split: str, limit: SplitSizes | None
) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    count = limit.of(split) if limit is not None else None
    if count is None or count >= len(ids):
        return ids, tags
    chosen = balanced_subset(ids, tags, count)
    return tuple(ids[index] for index in chosen), tags[chosen]


def state_of(path: Path | None) -> str:
    """A file's name, size and time of change, for fingerprints; "" for no file."""
    if path is None:
        return ""
    try:
        state = path.stat()
    except OSError:
        return f"{path.name} missing"
    return f"{path.name} {state.st_size} {state.st_mtime_ns}"
