"""Pictures of a run: for each of a few images the photograph, the truth and every evaluated result, side by side."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camshaft.engine.data import VOID, DataSet
from camshaft.engine.data.dataset import balanced_subset
from camshaft.engine.errors import CamshaftError, StoreError
from camshaft.engine.report.colours import css, label_colours
from camshaft.engine.report.records import Result, Run
from camshaft.engine.report.sources import Drawn, Photo, Source, draw_labels, open_source
from camshaft.engine.report.wording import percent
from camshaft.engine.stages.stage import Product

IMAGES = "images"
JPEG_QUALITY = 86


@dataclass(frozen=True)
class Cell:
    """One picture, or why there is none."""

    column: str
    words: str
    file: str | None = None
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class ImageRow:
    """All pictures of one image."""

    id: str
    tags: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Column:
    """The heading of a column; its mIoU in words where it is a result's."""

    name: str
    miou: str = ""


@dataclass(frozen=True)
class Key:
    """A colour that occurs in the pictures, as CSS writes it, and what it means."""

    name: str
    colour: str
    is_class: bool


@dataclass(frozen=True)
class Gallery:
    """The pictures of one split."""

    split: str
    columns: tuple[Column, ...]
    rows: tuple[ImageRow, ...]
    legend: tuple[Key, ...]
    has_maps: bool
    has_thresholds: bool


def write_galleries(run: Run, data: DataSet, folder: Path, count: int) -> tuple[Gallery, ...]:
    """Write the pictures of `count` images of each evaluated split into `folder`/images."""
    if count <= 0:
        return ()
    (folder / IMAGES).mkdir()
    return tuple(_Painter(run, data, split, folder).gallery(count) for split in run.splits)


def chosen(run: Run, data: DataSet, split: str, count: int) -> list[tuple[str, tuple[str, ...]]]:
    """The images of a gallery with their tags: the classes as equally frequent as may be, always the same ones."""
    left_out = {skipped.id for skipped in run.record.data.skipped if skipped.split == split}
    kept = [index for index, image_id in enumerate(data.ids(split)) if image_id not in left_out]
    ids, tags = [data.ids(split)[index] for index in kept], data.tags(split)[kept]
    return [
        (ids[index], tuple(data.classes[k] for k in np.flatnonzero(tags[index])))
        for index in balanced_subset(ids, tags, count)
    ]


class _Painter:
    """Makes the pictures of one split."""

    def __init__(self, run: Run, data: DataSet, split: str, folder: Path) -> None:
        self._run, self._data, self._split, self._folder = run, data, split, folder
        self._colours: NDArray[np.uint8] = label_colours(data)
        self._results: list[Result] = [result for result in run.results if result.split == split]
        self._sources = [self._opened(result) for result in self._results]
        self._truth = data.has_masks(split)
        self._drawn: set[int] = set()

    def _opened(self, result: Result) -> Source | StoreError:
        """What draws a result, or why nothing does: a page without one of its columns is better than none."""
        try:
            return open_source(self._run, result, self._colours)
        except StoreError as error:
            return error

    def gallery(self, count: int) -> Gallery:
        """Write and describe the pictures."""
        images = chosen(self._run, self._data, self._split, count)
        rows = tuple(self._row(number, image_id, tags) for number, (image_id, tags) in enumerate(images, 1))
        results = [result.row for result in self._results]
        return Gallery(
            split=self._split,
            columns=(
                Column("image"),
                *([Column("truth")] if self._truth else []),
                *(Column(row.name, percent(row.miou)) for row in results),
            ),
            rows=rows,
            legend=self._legend(),
            has_maps=any(row.product == Product.MAPS for row in results),
            has_thresholds=any(row.threshold is not None for row in results),
        )

    def _row(self, number: int, image_id: str, tags: tuple[str, ...]) -> ImageRow:
        stem = f"{IMAGES}/{self._split}-{number:03d}"
        try:
            photo = Photo.shown(image_id, self._data.image(image_id))
        except CamshaftError as error:
            return ImageRow(image_id, tags, (Cell("image", str(error)),))
        cells = [self._saved(Drawn(photo.pixels, ", ".join(tags) or "no tags"), "image", f"{stem}-image")]
        if self._truth:
            cells.append(self._truth_cell(photo, f"{stem}-truth"))
        for position, (result, source) in enumerate(zip(self._results, self._sources, strict=True), 1):
            cells.append(self._result_cell(photo, result.row.name, source, f"{stem}-{position}"))
        return ImageRow(image_id, tags, tuple(cells))

    def _truth_cell(self, photo: Photo, stem: str) -> Cell:
        try:
            mask = self._data.mask(photo.id)
        except CamshaftError as error:
            return Cell("truth", str(error))
        if mask is None:
            return Cell("truth", "has no mask")
        return self._saved(draw_labels(photo, mask, self._data.classes, self._colours), "truth", stem)

    def _result_cell(self, photo: Photo, name: str, source: Source | StoreError, stem: str) -> Cell:
        if isinstance(source, StoreError):
            return Cell(name, str(source))
        try:
            return self._saved(source.draw(photo), name, stem)
        except StoreError as error:
            return Cell(name, str(error))

    def _saved(self, drawn: Drawn, column: str, stem: str) -> Cell:
        self._drawn |= drawn.labels
        file = f"{stem}.jpg"
        # 4:4:4, as halved colour resolution smears the overlays' borders.
        Image.fromarray(drawn.pixels).save(self._folder / file, quality=JPEG_QUALITY, subsampling=0)
        height, width = drawn.pixels.shape[:2]
        return Cell(column, drawn.words, file, width, height)

    def _legend(self) -> tuple[Key, ...]:
        names = {label: self._data.classes[label - 1] for label in sorted(self._drawn - {VOID})}
        keys = [Key(name, css(self._colours[label]), is_class=True) for label, name in names.items()]
        void = [Key("no label", css(self._colours[VOID]), is_class=False)] if VOID in self._drawn else []
        return (*keys, *void)
