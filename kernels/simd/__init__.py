"""Short float32 vectors inside Numba: the one place where compiled functions speak to the vector unit."""

from camshaft.kernels.simd.functions import exp, log
from camshaft.kernels.simd.vector import (
    Lanes,
    add_to,
    broadcast,
    load,
    load_repeated,
    max_among,
    maximum,
    minimum,
    peek,
    poke,
    store,
    sum_among,
    without_small,
)

__all__ = [
    "Lanes",
    "add_to",
    "broadcast",
    "exp",
    "load",
    "load_repeated",
    "log",
    "max_among",
    "maximum",
    "minimum",
    "peek",
    "poke",
    "store",
    "sum_among",
    "without_small",
]
