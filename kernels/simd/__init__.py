"""Short float32 vectors inside Numba, for all operations.

What the walk alone needs, several vectors at once, is in walk/bundle.py and walk/columns.py.
"""

from camshaft.kernels.simd.functions import exp, log
from camshaft.kernels.simd.planes import exp_beyond, largest, load_planes, scaled, shifted, store_planes, total
from camshaft.kernels.simd.sums import add_to_sum, move_sum, store_terms, take_sum
from camshaft.kernels.simd.vector import (
    Lanes,
    any_outside,
    broadcast,
    load,
    load_repeated,
    max_among,
    maximum,
    minimum,
    peek,
    poke,
    prefetch,
    store,
    sum_among,
    without_small,
)

__all__ = [
    "Lanes",
    "add_to_sum",
    "any_outside",
    "broadcast",
    "exp",
    "exp_beyond",
    "largest",
    "load",
    "load_planes",
    "load_repeated",
    "log",
    "max_among",
    "maximum",
    "minimum",
    "move_sum",
    "peek",
    "poke",
    "prefetch",
    "scaled",
    "shifted",
    "store",
    "store_planes",
    "store_terms",
    "sum_among",
    "take_sum",
    "total",
    "without_small",
]
