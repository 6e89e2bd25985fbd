"""How the compiled walk holds its arrays, so that every load is one aligned cache line or a shift of one.

Legend: h×w grid, R = radius - 1 the reach of the stencil, S = w rounded up to whole blocks of 16 pixels, K maps.

- weights (R + h, R + 1, 2R + 1, S): the row R + y holds, for each offset (dy, dx), the weight of the pairs whose first
  pixel lies in row y, at [R + y, dy, R + dx, x]; all that a row needs lies together. R rows come before that
  belong to no pixel. Where a pair would leave the grid stands anything from 0 to 1: the maps are 0 there, or nobody
  asks for the sum.
- maps (R + h + R, S / 16, K, 16): block by block, the K maps of a block side by side; R empty rows on either side.
- others (h, S): o, the sum of the weights of a pixel's neighbours; 0 where x ≥ w.
- inverse (h, S): 1 / (1 + o), and 0 where x ≥ w: whatever a product finds there is multiplied away.
"""

import math
import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.compiled import compiled
from camshaft.kernels.simd import any_outside, broadcast, load, peek, poke, store
from camshaft.kernels.walk.bundle import LANES, PIXELS

Array = NDArray[np.float32]
LARGEST = np.finfo(np.float32).max


class Transition(NamedTuple):
    """T = D⁻¹W of one image, as the compiled functions take it; the arrays are flat.

    Attributes:
        weights, others, inverse: as above.
        columns: R zeros: its length is part of its type, so that the compiler knows R.
        sums: room for a row's sums by column.
        rows: h.
        line: S.
    """

    weights: Array
    others: Array
    inverse: Array
    columns: tuple[int, ...]
    sums: Array
    rows: int
    line: int


def aligned(*shape: int) -> Array:
    """Zeros, float32, that begin on a cache line."""
    count = math.prod(shape)
    buffer = np.zeros(count + LANES, np.float32)
    start = -(buffer.ctypes.data // buffer.itemsize) % LANES
    return buffer[start : start + count].reshape(shape)


_kept = threading.local()


def scratch(name: str, *shape: int) -> Array:
    """Aligned zeros, valid until this thread asks for `name` again."""
    view = kept(name, *shape)
    view.fill(0)
    return view


def kept(name: str, *shape: int) -> Array:
    """Aligned, with whatever this thread left in `name`, zeros at first; valid until it asks for `name` again.

    The memory is kept from call to call: pages that are new to the process cost more than all the zeros.
    """
    arrays: dict[str, Array] = vars(_kept)
    count = math.prod(shape)
    if name not in arrays or arrays[name].size < count:
        arrays[name] = aligned(count)
    return arrays[name][:count].reshape(shape)


def line_of(width: int) -> int:
    """S: the width rounded up to whole blocks."""
    return -(-width // LANES) * LANES


@compiled()
def copy_in(
    maps: Array, first: int, given: int, blocks: Array, start: int, count: int, reach: int, begin: int, end: int
) -> bool:
    """Put rows begin to end of the maps (…, h, w) from number `first` on into the blocks of K = count maps at `start`.

    Where fewer are given, and beside the grid, are zeros. Returns whether all values are finite.
    """
    _, h, w = maps.shape
    values, line = maps.reshape(-1), -(-w // LANES) * LANES
    nothing, finite = broadcast(np.float32(0), PIXELS), True
    for k in range(count):
        for y in range(begin, end):
            here, there = ((first + k) * h + y) * w, start + ((reach + y) * line * count) + k * LANES
            for x in range(0, line, LANES):
                if k < given and x + LANES <= w:
                    value = load(values, here + x, PIXELS)
                    finite &= not any_outside(value, -LARGEST, LARGEST)
                    store(blocks, there + x * count, value)
                    continue
                store(blocks, there + x * count, nothing)
                for i in range(x, w if k < given else x):
                    number = peek(values, here + i)
                    finite &= np.isfinite(number)
                    poke(blocks, there + x * count + i - x, number)
    return finite


@compiled()
def copy_out(blocks: Array, count: int, reach: int, out: Array, begin: int, end: int) -> None:
    """The counterpart: write rows begin to end of the blocks' maps into `out` (count or fewer, h, w)."""
    given, h, w = out.shape
    values, line = out.reshape(-1), -(-w // LANES) * LANES
    for k in range(given):
        for y in range(begin, end):
            here, there = (k * h + y) * w, ((reach + y) * line * count) + k * LANES
            for x in range(0, w, LANES):
                if x + LANES <= w:
                    store(values, here + x, load(blocks, there + x * count, PIXELS))
                    continue
                for i in range(x, w):
                    poke(values, here + i, peek(blocks, there + x * count + i - x))


@compiled()
def fill_ones(blocks: Array, count: int, width: int, reach: int, line: int, begin: int, end: int) -> None:
    """Put 1 into rows begin to end of the blocks of `count` maps, and 0 beside the grid."""
    one = np.float32(1)
    for x in range(0, line, LANES):
        inside = min(LANES, width - x)
        for y in range(begin, end):
            for k in range(count):
                at = ((reach + y) * line + x) * count + k * LANES
                blocks[at : at + inside] = one
                blocks[at + inside : at + LANES] = np.float32(0)


@compiled()
def clear_around(blocks: Array, start: int, row: int, rows: int, reach: int, begin: int, end: int) -> None:
    """Clear the R empty rows, of `row` floats each, beside those from begin to end of blocks that begin at `start`."""
    if begin == 0:
        blocks[start : start + reach * row] = np.float32(0)
    if end == rows:
        blocks[start + (reach + rows) * row : start + (2 * reach + rows) * row] = np.float32(0)
