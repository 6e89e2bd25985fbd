"""What a data set is to the rest of the program: ids, tags, images, and masks and saliency where it has them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from camshaft.engine.errors import DataError
from camshaft.engine.runtime.seeds import derive
from camshaft.engine.stores import voc_palette

T = TypeVar("T", bound=Hashable)

SPLITS = ("train", "val")
"""The roles that a data set's images are split into; its settings say which images play which role."""

MAX_CLASSES = 253
"""As many as fit in 8-bit masks beside the background (0), void (255) and one value kept free."""


class DataSet(ABC):
    """A data set. Arrays that it returns belong to the caller unless they are marked read-only.

    Methods may be called from several threads at once.
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        file_values: Sequence[int] | None = None,
        palette: NDArray[np.uint8] | None = None,
    ) -> None:
        """Check and keep what all data sets have.

        Args:
            name: for messages and reports.
            classes: names of the C classes, without the background.
            file_values: value in mask files of the background and of each class, C + 1 of them; default 0 … C.
            palette: (256, 3) colours by file value; default VOC's.

        Raises:
            DataError: no class, too many, or the same name or value twice.
        """
        self.name = name
        self.classes = tuple(classes)
        self.file_values = tuple(file_values) if file_values is not None else tuple(range(len(self.classes) + 1))
        self.palette = palette if palette is not None else voc_palette()
        if not 1 <= len(self.classes) <= MAX_CLASSES:
            raise DataError(f"{name}: {len(self.classes)} classes; there must be 1 to {MAX_CLASSES}")
        if repeated := repetitions(self.classes):
            raise DataError(f"{name}: class {repeated[0]!r} is named twice")
        if len(self.file_values) != len(self.classes) + 1 or repetitions(self.file_values):
            raise DataError(f"{name}: mask values {self.file_values} must be {len(self.classes) + 1} different ones")

    @abstractmethod
    def ids(self, split: str) -> tuple[str, ...]:
        """The ids of a split ("train" or "val"), in a fixed order.

        Raises:
            DataError: the data set has no such split.
        """

    @abstractmethod
    def tags(self, split: str) -> NDArray[np.uint8]:
        """Image-level tags: (N, C) of 0 and 1, rows in the order of `ids(split)`."""

    @abstractmethod
    def size(self, image_id: str) -> tuple[int, int]:
        """(H, W) of an image as `image` returns it, read from the file's header alone."""

    @abstractmethod
    def image(self, image_id: str, *, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """An image, (H, W, 3) RGB, upright.

        Args:
            image_id: which image.
            at_least: (height, width) down to which a large image may come out smaller, if that is faster to decode.

        Raises:
            ImageError: missing or can't be decoded; names the file.
        """

    def encoded(self, image_id: str) -> bytes | None:
        """The image's file as it stands; None if there is none, or it can't be read (`image` says why)."""
        del image_id
        return None

    @abstractmethod
    def mask(self, image_id: str) -> NDArray[np.uint8] | None:
        """Its mask, (H, W): 0 background, 1 … C classes, 255 void; None if it has none.

        Raises:
            ImageError: can't be decoded, or has another size than the image.
            DataError: holds a value that is no class's.
        """

    @abstractmethod
    def saliency(self, image_id: str) -> NDArray[np.uint8] | None:
        """Its saliency, (H, W), 0 … 255; None if it has none.

        Raises:
            ImageError: can't be decoded, is not 8-bit, or has another size than the image.
        """

    @abstractmethod
    def has_masks(self, split: str) -> bool:
        """True if any image of the split has a mask (the inspection finds those that lack one)."""

    @abstractmethod
    def has_saliency(self, split: str) -> bool:
        """True if any image of the split has a saliency map (the inspection finds those that lack one)."""

    @abstractmethod
    def fingerprint(self, split: str, *, masks: bool = False, saliency: bool = False) -> str:
        """A hexadecimal SHA-256 that changes when the classes or the split's ids, tags or images do.

        It is cheap: no file is read.

        Args:
            split: of which images.
            masks: whether it also changes when the masks, or what their values mean, do.
            saliency: whether it also changes when the saliency maps do.

        Raises:
            DataError: the data set has no such split.
        """

    def check(self, image_id: str, *, masks: bool, saliency: bool) -> "Checked":
        """Read the files of one image to their last byte.

        Args:
            image_id: which image.
            masks: it must have a mask, which is read too; else its mask is left alone.
            saliency: the same of its saliency map.
        """
        try:
            height, width, _ = self.image(image_id).shape
        except DataError as error:
            return Checked(None, str(error), ())
        problems = []
        for read, needed, what in ((self.mask, masks, "mask"), (self.saliency, saliency, "saliency map")):
            try:
                if needed and read(image_id) is None:
                    problems.append(f"{self.name}: image {image_id!r} has no {what}")
            except DataError as error:
                problems.append(str(error))
        return Checked((height, width), None, tuple(problems))


@dataclass(frozen=True)
class Checked:
    """What `DataSet.check` found."""

    size: tuple[int, int] | None
    """(H, W), or None if the image can't be read."""
    unreadable: str | None
    """Why the image can't be read, or None."""
    problems: tuple[str, ...]
    """What is wrong with its mask and saliency map, one line each."""


def repetitions(values: Iterable[T]) -> list[T]:
    """The values that occur again after their first occurrence, in order."""
    seen: set[T] = set()
    again = []
    for value in values:
        if value in seen:
            again.append(value)
        seen.add(value)
    return again


def tag_matrix(names: Sequence[Iterable[str]], classes: Sequence[str]) -> NDArray[np.uint8]:
    """(N, C) tags from N collections of class names; names outside `classes` are left out."""
    column = {name: k for k, name in enumerate(classes)}
    tags = np.zeros((len(names), len(classes)), np.uint8)
    for row, present in enumerate(names):
        for name in present:
            if name in column:
                tags[row, column[name]] = 1
    return tags


def balanced_subset(ids: Sequence[str], tags: NDArray[np.uint8], count: int) -> list[int]:
    """Indices of `count` images, classes as equally frequent as their tags allow, in the order of `ids`.

    The next image is always one of the class that was chosen least often; among its images the order follows from the
    ids alone, so the choice is the same everywhere. Images without a tag come last.
    """
    order = sorted(range(len(ids)), key=lambda index: derive("subset", ids[index]))
    waiting = {k: [index for index in reversed(order) if tags[index, k]] for k in range(tags.shape[1])}
    chosen: set[int] = set()
    frequency = np.zeros(tags.shape[1], np.int64)
    while len(chosen) < min(count, len(ids)) and waiting:
        rarest = min(waiting, key=lambda k: (int(frequency[k]), k))
        while waiting[rarest] and waiting[rarest][-1] in chosen:
            waiting[rarest].pop()
        if not waiting[rarest]:
            del waiting[rarest]
            continue
        index = waiting[rarest].pop()
        chosen.add(index)
        frequency += tags[index]
    rest = (index for index in order if index not in chosen)
    chosen.update(index for index, _ in zip(rest, range(count - len(chosen)), strict=False))
    return sorted(chosen)


def digest(parts: Iterable[str | bytes]) -> str:
    """Hexadecimal SHA-256 of parts, each preceded by its length so that no two lists of parts look alike."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()
