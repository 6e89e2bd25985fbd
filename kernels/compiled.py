"""Numba as the kernels use it: compiled once and kept on disk, without the interpreter's lock, and typed for mypy."""

from collections.abc import Callable
from typing import TypeVar

from numba import njit

F = TypeVar("F", bound=Callable[..., object])


def compiled(*, fastmath: bool = False) -> Callable[[F], F]:
    """Compile the decorated function at its first call, and find it in Numba's cache afterwards.

    The cache looks at the function's own file alone: an edit to a compiled function that it calls from another file is
    not seen until the calling file is touched.

    Args:
        fastmath: let LLVM reorder sums and assume finite values.
    """
    decorate: Callable[[F], F] = njit(cache=True, nogil=True, fastmath=fastmath, error_model="numpy")
    return decorate
