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

from camshaft.kernels.walk.bundle import LANES


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
    given, h, w = maps.shape
    blocks = scratch(name, h + 2 * reach, line_of(w) // LANES, count, LANES)
    rows = blocks[reach : reach + h, :, :given].transpose(2, 0, 1, 3)
    whole = w // LANES
    rows[:, :, :whole] = maps[:, :, : whole * LANES].reshape(given, h, whole, LANES)
    if whole * LANES < w:
        rows[:, :, whole, : w - whole * LANES] = maps[:, :, whole * LANES :]
    return blocks


def from_blocks(blocks: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """The counterpart: write the maps into `out` (K, h, w)."""
    count, h, w = out.shape
    reach = (len(blocks) - h) // 2
    rows = blocks[reach : reach + h].transpose(2, 0, 1, 3)
    out[...] = rows.reshape(count, h, -1)[:, :, :w]
