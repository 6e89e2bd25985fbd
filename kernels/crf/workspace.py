"""Scratch arrays that are kept from one image to the next: fresh memory costs more than what is written to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

CACHE_LINE = 64  # bytes
Scalar = TypeVar("Scalar", bound=np.generic)


class Workspace:
    """Named arrays of one borrower."""

    def __init__(self) -> None:
        """Start empty."""
        self._arrays: dict[str, NDArray[Any]] = {}

    def take(self, name: str, size: int, dtype: type[Scalar]) -> NDArray[Scalar]:
        """Return an array (size,) with whatever it held before."""
        array = self._arrays.get(name)
        if array is None or array.size < size:
            array = self._arrays[name] = aligned(size + size // 8, dtype)
        return array[:size]

    def swap(self, one: str, other: str) -> None:
        """Exchange two arrays."""
        self._arrays[one], self._arrays[other] = self._arrays[other], self._arrays[one]

    def zeros(self, name: str, size: int, dtype: type[Scalar]) -> NDArray[Scalar]:
        """Return an array (size,) of zeros."""
        array = self.take(name, size, dtype)
        array[:] = 0
        return array


def aligned(size: int, dtype: type[Scalar]) -> NDArray[Scalar]:
    """Return an empty array (size,) that starts on a cache line."""
    item = np.dtype(dtype).itemsize
    array = np.empty(size + CACHE_LINE // item, dtype)
    skip = -array.ctypes.data % CACHE_LINE // item
    return array[skip : skip + size]


_free: list[Workspace] = []
_lock = Lock()


@contextmanager
def borrowed(count: int) -> Iterator[list[Workspace]]:
    """Lend `count` workspaces that nobody else uses."""
    with _lock:
        taken = [_free.pop() if _free else Workspace() for _ in range(count)]
    try:
        yield taken
    finally:
        with _lock:
            _free.extend(taken)
