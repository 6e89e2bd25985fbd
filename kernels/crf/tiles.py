"""The order in which the fused mean field keeps its pixels.

The image is cut into tiles; a tile's pixels are ordered by column, then by row modulo the period s, then by row. Rows
that are s apart thus lie side by side, and there the smoothness kernel's lattice repeats itself (see smoothness.py).
Tiles at the border are as large as the others; what lies outside the image carries no weight.
"""

from typing import NamedTuple

WIDTH = 128  # columns of a tile
RUN = 16  # a run of rows that are s apart is a multiple of this: whole vectors
LARGEST_PERIOD = 16


class Tiles(NamedTuple):
    """An image's tiles.

    Attributes:
        height, width: of the image, in pixels.
        period: s, rows.
        run: rows of one residue modulo s in a tile; a tile has period * run rows.
        columns, number: tiles side by side, and in all.
    """

    height: int
    width: int
    period: int
    run: int
    columns: int
    number: int

    @property
    def size(self) -> int:
        """Pixels of a tile."""
        return WIDTH * self.period * self.run


def cut(height: int, width: int, period: int) -> Tiles:
    """Cut an image into tiles of about 64 x 64 pixels."""
    run = RUN * max(1, 64 // (RUN * period))
    columns, rows = -(-width // WIDTH), -(-height // (period * run))
    return Tiles(height, width, period, run, columns, columns * rows)
