"""How the compiled walk holds its arrays, so that every load is one aligned cache line or a shift of one.

Legend: h×w grid, R = radius - 1 the reach of the stencil, S = w rounded up to whole blocks of 16 pixels, K maps.

- weights (R + h, R + 1, 2R + 1, S): the row R + y holds, for each offset (dy, dx), the weight of the pairs whose first
  pixel lies in row y, at [R + y, dy, R + dx, x]; all that a row needs lies together. R rows come before that
  belong to no pixel. Where a pair would leave the grid stands anything finite: the maps are 0 there, or nobody asks for
  the sum.
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
from camshaft.kernels.simd import load, peek, poke, store
from camshaft.kernels.walk.bundle import LANES, PIXELS


class Transition(NamedTuple):
    """T = D⁻¹W of one image, as the compiled functions take it; the arrays are flat.

    Attributes:
        weights, others, inverse: as above.
        heights: int64 (R + 1,): the stencil's largest |dy| at each |dx|.
        columns: R zeros: its length is part of its type, so that the compiler knows R.
        sums: room for a row's sums by column.
        rows: h.
        line: S.
    """

    weights: NDArray[np.float32]
    others: NDArray[np.float32]
    inverse: NDArray[np.float32]
    heights: NDArray[np.int64]
    columns: tuple[int, ...]
    sums: NDArray[np.float32]
    rows: int
    line: int


def aligned(*shape: int) -> NDArray[np.float32]:
    """Zeros, float32, that begin on a cache line."""
    count = math.prod(shape)
    buffer = np.zeros(count + LANES, np.float32)
    start = -(buffer.ctypes.data // buffer.itemsize) % LANES
    return buffer[start : start + count].reshape(shape)


_kept = threading.local()


def scratch(name: str, *shape: int) -> NDArray[np.float32]:
    """Aligned zeros, valid until this thread asks for `name` again."""
    view = kept(name, *shape)
    view.fill(0)
    return view


def kept(name: str, *shape: int) -> NDArray[np.float32]:
    """Aligned, with whatever this thread left in `name`, zeros at first; valid until it asks for `name` again.

    The memory is kept from call to call: pages that are new to the process cost more than all the zeros.
    """
    arrays: dict[str, NDArray[np.float32]] = vars(_kept)
    count = math.prod(shape)
    if name not in arrays or arrays[name].size < count:
        arrays[name] = aligned(count)
    return arrays[name][:count].reshape(shape)


def line_of(width: int) -> int:
    """S: the width rounded up to whole blocks."""
    return -(-width // LANES) * LANES


def to_blocks(maps: NDArray[np.float32], reach: int, count: int, name: str) -> NDArray[np.float32]:
    """(K, h, w) → (R + h + R, S / 16, count, 16), zeros around and for the maps that are wanting; scratch `name`."""
    _, h, w = maps.shape
    blocks = scratch(name, h + 2 * reach, line_of(w) // LANES, count, LANES)
    _copy(np.ascontiguousarray(maps), blocks[reach : reach + h], True)
    return blocks


def from_blocks(blocks: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """The counterpart: write the maps into `out` (K, h, w), contiguous."""
    reach = (len(blocks) - out.shape[1]) // 2
    _copy(out, blocks[reach : reach + out.shape[1]], False)


@compiled()
def _copy(maps: NDArray[np.float32], rows: NDArray[np.float32], inwards: bool) -> None:
    """Copy the maps (K, h, w) into rows (h, S / 16, K or more, 16), or these into the maps."""
    given, h, w = maps.shape
    outer, inner = maps.reshape(-1), rows.reshape(-1)
    _, blocks, count, _ = rows.shape
    for y in range(h):
        for start in range(0, w, LANES):
            for k in range(given):
                here, there = (k * h + y) * w + start, ((y * blocks + start // LANES) * count + k) * LANES
                if start + LANES > w:
                    for i in range(w - start):
                        if inwards:
                            poke(inner, there + i, peek(outer, here + i))
                        else:
                            poke(outer, here + i, peek(inner, there + i))
                elif inwards:
                    store(inner, there, load(outer, here, PIXELS))
                else:
                    store(outer, here, load(inner, there, PIXELS))
