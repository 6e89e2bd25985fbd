"""Where the pictures of a result come from: a map store or a mask folder, drawn over the photograph."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camshaft.engine.data import VOID
from camshaft.engine.errors import StoreError
from camshaft.engine.pipeline.run import RUN_FILE
from camshaft.engine.report.overlay import heat_overlay, mask_overlay
from camshaft.engine.report.records import Result, Run
from camshaft.engine.report.wording import percent
from camshaft.engine.stages.crf import alpha_folder
from camshaft.engine.stages.seeds import at_image_size, to_labels, with_background
from camshaft.engine.stages.stage import Product
from camshaft.engine.stores import MapStore, MaskFolder

LONG_SIDE = 560
"""Pixels of a picture's longer side at most: sharp as a thumbnail on a dense display, and large enough when opened."""


@dataclass(frozen=True)
class Photo:
    """An image at the size at which it is shown: (H, W, 3) RGB."""

    id: str
    pixels: NDArray[np.uint8]

    @classmethod
    def shown(cls, image_id: str, image: NDArray[np.uint8]) -> "Photo":
        """`image`, scaled down to `LONG_SIDE` if it is larger."""
        scale = min(1.0, LONG_SIDE / max(image.shape[:2]))
        height, width = (max(1, round(length * scale)) for length in image.shape[:2])
        if scale < 1:
            resized = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
            return cls(image_id, np.asarray(resized))
        return cls(image_id, image)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True)
class Drawn:
    """A picture, what it shows in words, and the labels whose colours are in it."""

    pixels: NDArray[np.uint8]
    words: str
    labels: frozenset[int] = frozenset()


class Source(ABC):
    """Draws one result of one image after the other."""

    @abstractmethod
    def draw(self, photo: Photo) -> Drawn:
        """The result over the photograph.

        Raises:
            StoreError: there is no result for this image, or it is damaged.
        """


class Masks(Source):
    """Label images of a mask folder."""

    def __init__(self, folder: MaskFolder, classes: tuple[str, ...], colours: NDArray[np.uint8]) -> None:
        """Draw `folder`'s masks."""
        self._folder, self._classes, self._colours = folder, classes, colours

    def draw(self, photo: Photo) -> Drawn:
        """See `Source.draw`."""
        return draw_labels(photo, self._folder.read(photo.id), self._classes, self._colours)


class HeatMaps(Source):
    """Class activation maps of a map store, with the border that a fixed threshold gives them."""

    def __init__(
        self, store: MapStore, threshold: float | None, classes: tuple[str, ...], colours: NDArray[np.uint8]
    ) -> None:
        """Draw `store`'s maps."""
        self._store, self._threshold, self._classes, self._colours = store, threshold, classes, colours

    def draw(self, photo: Photo) -> Drawn:
        """See `Source.draw`."""
        stored = self._store.read(self._store.index(photo.id))
        maps = at_image_size(replace(stored, image_size=photo.size), bool(self._store.provenance["align_corners"]))
        labels = None
        words = ", ".join(self._classes[k] for k in stored.classes) or "no class"
        if self._threshold is not None:
            labels = to_labels(with_background(self._threshold, maps), stored.classes)
            words = f"above the threshold: {in_words(labels, self._classes)}"
        pixels = heat_overlay(photo.pixels, maps, stored.classes, self._colours, labels)
        return Drawn(pixels, words, frozenset(int(k) + 1 for k in stored.classes))


def open_source(run: Run, result: Result, colours: NDArray[np.uint8]) -> Source:
    """What draws an evaluated result.

    Raises:
        StoreError: its files are gone or damaged.
    """
    row, classes = result.row, run.record.classes
    stage = run.stage(row.of)
    if stage is None:
        raise StoreError(f"{run.folder / RUN_FILE}: the run has no stage {row.of!r}")
    folder = stage.folder / result.split
    if row.product == Product.MAPS:
        return HeatMaps(MapStore.open(folder), row.threshold, classes, colours)
    if row.alpha is not None:
        folder = folder / alpha_folder(row.alpha)
    return Masks(MaskFolder.open(folder), classes, colours)


def draw_labels(photo: Photo, labels: NDArray[np.uint8], classes: tuple[str, ...], colours: NDArray[np.uint8]) -> Drawn:
    """A label image of any size over a photograph."""
    height, width = photo.size
    if labels.shape != photo.size:
        labels = np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))
    drawn = frozenset(np.unique(labels).tolist()) - {0}
    return Drawn(mask_overlay(photo.pixels, labels, colours), in_words(labels, classes), drawn)


def in_words(labels: NDArray[np.uint8], classes: tuple[str, ...]) -> str:
    """Which labels cover how much: "cat 31 %, dog 4 %"; the largest first."""
    counts = np.bincount(labels.ravel(), minlength=256)
    names = dict(enumerate(classes, 1)) | {VOID: "no label"}
    shares = sorted(((int(counts[label]), name) for label, name in names.items() if counts[label]), reverse=True)
    return ", ".join(f"{name} {percent(count / labels.size, 0)} %" for count, name in shares) or "background only"
