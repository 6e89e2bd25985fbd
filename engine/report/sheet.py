"""A figure as one picture: a grid of cells with a heading over each column and a name below each row's first cell."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

CELL_WIDTH = 240
GAP = 6
MARGIN = 10
HEADING = 24
NAME = 18
FONT_SIZE = 14
NAME_SIZE = 11
PAPER = (255, 255, 255)
INK = (29, 33, 38)
SOFT = (93, 100, 108)
ELLIPSIS = "..."

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Row:
    """One row of cells, uint8 (H, CELL_WIDTH, 3) each, all of one height."""

    name: str
    cells: tuple[NDArray[np.uint8], ...]
    captions: tuple[str, ...] = ()
    """Under each cell but the first; without any, nothing stands there."""


def cell_size(height: int, width: int) -> tuple[int, int]:
    """(H, W) of a cell that shows a picture of this size whole."""
    return max(1, round(height * CELL_WIDTH / width)), CELL_WIDTH


def sheet(columns: Sequence[str], rows: Sequence[Row]) -> Image.Image:
    """Lay out a figure.

    Args:
        columns: the headings.
        rows: each with as many cells as there are headings.
    """
    width = 2 * MARGIN + len(columns) * CELL_WIDTH + (len(columns) - 1) * GAP
    height = 2 * MARGIN + HEADING + sum(row.cells[0].shape[0] + NAME for row in rows)
    page = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(page)
    heading, small = ImageFont.load_default(FONT_SIZE), ImageFont.load_default(NAME_SIZE)
    left = [MARGIN + number * (CELL_WIDTH + GAP) for number in range(len(columns))]
    for x, text in zip(left, columns, strict=True):
        draw.text((x, MARGIN), fitting(text, heading), INK, heading)
    top = MARGIN + HEADING
    for row in rows:
        for x, cell in zip(left, row.cells, strict=True):
            page.paste(Image.fromarray(cell), (x, top))
        top += row.cells[0].shape[0]
        for x, text in zip(left, (row.name, *row.captions), strict=False):
            draw.text((x, top + 1), fitting(text, small), SOFT, small)
        top += NAME
    return page


def fitting(text: str, font: Font) -> str:
    """`text`, shortened in its middle until it is no wider than a cell; ? where the font has no letter.

    Pillow's own font has no accents: a letter with one loses it.
    """
    bare = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    text = short = bare.encode("ascii", "replace").decode()
    kept = len(text)
    while font.getlength(short) > CELL_WIDTH and kept > 1:
        kept -= 1
        short = text[: kept - kept // 2] + ELLIPSIS + text[len(text) - kept // 2 :]
    return short
