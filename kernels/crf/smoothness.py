"""The smoothness kernel's lattice: in two dimensions, over a regular grid of pixels, and hence in closed form.

The permutohedral lattice of the plane is triangular. With features (x / s, y / s) its vertices stand in columns
(sqrt(3) / 2) s pixels apart, s pixels apart within a column, and every other column is shifted by s / 2. For a whole s
the pattern therefore repeats every s rows: the pixels (x, y), (x, y + s), (x, y + 2 s), ... have the same weights, and
vertices that follow one another. One table for x and y mod s replaces the indices and weights of every pixel, and
splat, blur and slice run over consecutive numbers.

    grid    float32, flat: vertex (column, row), times the lanes of a pixel
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels import simd
from camshaft.kernels.compiled import compiled
from camshaft.kernels.crf import lattice, reference
from camshaft.kernels.crf.tiles import WIDTH, Tiles

SPLIT = 3  # grids that are splat onto: a corner of the first period is in row -1, 0 or 1
MARGIN = 2  # empty columns and rows around the vertices that pixels touch
ALIGNMENT = 16  # rows of the grid are a multiple of this: whole vectors
ALPHA = np.float32(1 / (1 + 2.0**-2))  # the blur's gain in two dimensions


class Smoothness(NamedTuple):
    """The lattice, and its norm.

    Attributes:
        vertices: int32, flat (W, s, 3): the corners of pixel (x, r); those of (x, r + s m) are m further.
        slots: int32, flat (W, s, 3): where in the split grids pixel (x, r) adds to each corner (see `fold`).
        weights: float32, flat (W, s, 3): barycentric weights.
        norm: float32, flat (tiles, pixels of a tile): sqrt(alpha compat / (K 1)); 0 outside the image.
        absent: int32: vertices inside the margin that no pixel touches; they stay 0.
        peak: float, the largest sum of weights times norm at a vertex: what marginals add up to is not larger.
        columns, rows: of the grid, margins included.
    """

    vertices: NDArray[np.int32]
    slots: NDArray[np.int32]
    weights: NDArray[np.float32]
    norm: NDArray[np.float32]
    absent: NDArray[np.int32]
    peak: float
    columns: int
    rows: int


@lru_cache(maxsize=64)
def build(tiles: Tiles, sigma: float, compat: float) -> Smoothness:
    """Build the lattice of an image's size; sigma is the tiles' period."""
    # One period of rows, plus the frame of pixels whose simplices may touch vertices that nothing else touches: only
    # there does it matter on which side of an edge rounding puts a pixel, and so only there is it done in float32.
    x, y = np.mgrid[: tiles.width, : tiles.period].reshape(2, -1)
    keys, weights = reference.embed(np.stack([x, y]).astype(np.float64) / sigma)
    column, row = _place(keys.transpose(1, 0, 2))
    columns = int(column.max()) + 1 + 2 * MARGIN
    tall = tiles.run * tiles.period
    rows = tiles.run * -(-tiles.height // tall) + int(row.max()) + 1 + 2 * MARGIN
    rows += -rows % ALIGNMENT
    column += MARGIN
    vertices = (column * rows + row + MARGIN).astype(np.int32).reshape(-1)
    slots = (((row + 1) * columns + column) * rows).astype(np.int32).reshape(-1)
    touched = np.zeros(columns * rows, np.bool_)
    frame = tiles.period + 2
    _touch(vertices, tiles.period, tiles.height, tiles.width, frame, touched)
    column, row = _place(_frame_keys(tiles, sigma, frame))
    touched[(column + MARGIN) * rows + row + MARGIN] = True
    inside = np.zeros((columns, rows), np.bool_)
    inside[1:-1, 1:-1] = True
    absent = np.flatnonzero(inside.reshape(-1) & ~touched).astype(np.int32)
    norm = np.zeros(tiles.number * tiles.size, np.float32)
    flat = weights.T.astype(np.float32).reshape(-1)
    smoothness = Smoothness(vertices, slots, flat, norm, absent, 0.0, columns, rows)
    _fill_norm(tiles, smoothness, np.float32(compat))
    sums = np.zeros(columns * rows, np.float32)
    _splat(tiles, vertices, flat, norm, sums)
    return smoothness._replace(peak=float(sums.max()))


def _place(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return column and row of vertices (..., 2), of which rows within a column differ by (1, 1, -2)."""
    return (keys[..., 0] - keys[..., 1]) // 3, (keys[..., 0] + keys[..., 1]) // 2


def _frame_keys(tiles: Tiles, sigma: float, frame: int) -> NDArray[np.int64]:
    """Return the vertices (n, 3, 2) of the pixels within `frame` of the border, as float32 arithmetic finds them."""
    outer = np.ones((tiles.height, tiles.width), np.bool_)
    outer[frame:-frame, frame:-frame] = False
    y, x = np.nonzero(outer)
    features = np.stack([x, y], 1).astype(np.float32) / np.float32(sigma)
    radix = np.int64(1 << 24)
    keys = np.empty((len(features), 3), np.int64)
    lattice.embed(features, keys, np.empty((len(features), 3), np.float32), np.array([radix, 1]))
    first = np.floor_divide(keys + radix // 2, radix)
    return np.stack([first, keys - first * radix], -1)


@compiled()
def _touch(
    vertices: NDArray[np.int32], period: int, height: int, width: int, frame: int, touched: NDArray[np.bool_]
) -> None:
    for x in range(frame, width - frame):
        for y in range(frame, height - frame):
            first = (x * period + y % period) * 3
            for corner in range(3):
                touched[vertices[first + corner] + y // period] = True


@compiled(fastmath=True)
def blur_axis(
    flat: simd.Lanes,
    grid: NDArray[np.float32],
    other: NDArray[np.float32],
    smoothness: Smoothness,
    axis: int,
    begin: int,
    end: int,
    channels: int,
) -> None:
    """Set columns begin to end of `other` to those of grid, blurred with (1/2, 1, 1/2) along one of the three axes."""
    absent = smoothness.absent
    stride = smoothness.rows * channels
    half = np.float32(0.5)
    for column in range(begin, end):
        odd = (column - MARGIN) & 1
        here = column * stride
        if axis == 2:
            after, before = here + channels, here - channels
        elif axis == 0:  # to the right and up half a step, to the left and down half a step
            after, before = here + stride + odd * channels, here - stride + (odd - 1) * channels
        else:
            after, before = here + stride + (odd - 1) * channels, here - stride + odd * channels
        for i in range(0, stride, flat.width):
            sides = simd.load(grid, before + i, flat) + simd.load(grid, after + i, flat)
            simd.store(other, here + i, simd.load(grid, here + i, flat) + sides * half)
    first, last = np.searchsorted(absent, begin * smoothness.rows), np.searchsorted(absent, end * smoothness.rows)
    for vertex in absent[first:last]:
        for i in range(vertex * channels, (vertex + 1) * channels):
            simd.poke(other, i, np.float32(0))


@compiled(fastmath=True)
def fold(
    flat: simd.Lanes,
    split: NDArray[np.float32] | NDArray[np.int32],
    copies: int,
    unit: np.float32,
    smoothness: Smoothness,
    begin: int,
    end: int,
    channels: int,
    grid: NDArray[np.float32],
) -> None:
    """Set columns begin to end of the grid to the sums of the split ones, and clear these.

    A pixel's corners (column, row) and (column, row + 1) would add to vectors that overlap by all but one pixel, and
    the processor would wait for the one before it could load the other. So rows -1, 0 and 1 have a grid each, in which
    all vectors start where a run starts.

    Args:
        flat: the vectors' lanes.
        split: sums, flat (copies, SPLIT, columns, rows, channels): each thread's SPLIT grids.
        copies: how many threads.
        unit: of int32 sums.
        smoothness: the lattice.
        begin, end: columns, none of them the first or the last.
        channels: of a vertex.
        grid: filled.
    """
    rows = smoothness.rows * channels
    size = smoothness.columns * rows
    for i in range(begin * rows, end * rows, flat.width):
        upper = i - (MARGIN - 1) * channels
        for copy in range(copies):
            other = copy * SPLIT * size + upper
            if copy > 0:
                simd.move_sum(split, other, upper, flat)
            simd.move_sum(split, other + size - channels, upper, flat)
            simd.move_sum(split, other + 2 * size - 2 * channels, upper, flat)
        simd.store(grid, i, simd.take_sum(split, upper, flat, unit))


def _fill_norm(tiles: Tiles, smoothness: Smoothness, compat: np.float32) -> None:
    grid = np.zeros(smoothness.columns * smoothness.rows, np.float32)
    _splat(tiles, smoothness.vertices, smoothness.weights, np.ones_like(smoothness.norm), grid)
    blurred = np.zeros_like(grid)
    for axis in range(3):
        blur_axis(simd.Lanes(ALIGNMENT), grid, blurred, smoothness, axis, 1, smoothness.columns - 1, 1)
        grid, blurred = blurred, grid
    _slice_norm(tiles, smoothness.vertices, smoothness.weights, grid, compat, smoothness.norm)


@compiled()
def _place_of(tiles: Tiles, x: int, y: int) -> int:
    """Return where the arrays that are ordered by tiles have pixel (x, y)."""
    tall = tiles.period * tiles.run
    tile = (y // tall) * tiles.columns + x // WIDTH
    return tile * WIDTH * tall + ((x % WIDTH) * tiles.period + y % tiles.period) * tiles.run + y % tall // tiles.period


@compiled()
def _splat(
    tiles: Tiles,
    vertices: NDArray[np.int32],
    weights: NDArray[np.float32],
    values: NDArray[np.float32],
    grid: NDArray[np.float32],
) -> None:
    for x in range(tiles.width):
        for y in range(tiles.height):
            first = (x * tiles.period + y % tiles.period) * 3
            value = values[_place_of(tiles, x, y)]
            for corner in range(first, first + 3):
                grid[vertices[corner] + y // tiles.period] += weights[corner] * value


@compiled()
def _slice_norm(
    tiles: Tiles,
    vertices: NDArray[np.int32],
    weights: NDArray[np.float32],
    grid: NDArray[np.float32],
    compat: np.float32,
    norm: NDArray[np.float32],
) -> None:
    for x in range(tiles.width):
        for y in range(tiles.height):
            first = (x * tiles.period + y % tiles.period) * 3
            total = np.float32(0)
            for corner in range(first, first + 3):
                total += weights[corner] * grid[vertices[corner] + y // tiles.period]
            norm[_place_of(tiles, x, y)] = np.sqrt(ALPHA * compat / (ALPHA * total + np.float32(1e-20)))
