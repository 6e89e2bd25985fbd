"""Threads that work on one input together, in compiled functions which release the interpreter's lock."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.barrier import barrier

T = TypeVar("T")


class Team:
    """A number of threads, of which the calling one is the first."""

    def __init__(self, size: int, pool: ThreadPoolExecutor | None) -> None:
        """Take the others from a pool; none is needed for a team of one."""
        self.size, self._pool = size, pool

    def each(self, function: Callable[[int, NDArray[np.int64]], T]) -> list[T]:
        """Call function(member, barrier) for every member at once; returns their results in order.

        Whoever meets the others at the barrier (kernels/barrier.py) must not fail before: it is given up only when a
        thread can't be started, or the calling one fails.
        """
        arrivals = barrier()
        if self._pool is None:
            return [function(0, arrivals)]
        try:
            others = [self._pool.submit(function, member, arrivals) for member in range(1, self.size)]
            return [function(0, arrivals), *(other.result() for other in others)]
        except BaseException:
            arrivals[1] = 1
            raise


@contextmanager
def team(size: int) -> Iterator[Team]:
    """Start the threads of a team, and end them afterwards."""
    if size == 1:
        yield Team(1, None)
    else:
        with ThreadPoolExecutor(size - 1, "kernel") as pool:
            yield Team(size, pool)


def thread_count(operation: str, threads: int | None) -> int:
    """Return the number of threads asked for, or the process's cores.

    Raises:
        ValueError: less than one.
    """
    if threads is None:
        return len(os.sched_getaffinity(0))
    if threads < 1:
        raise ValueError(f"{operation}: threads must be at least 1, not {threads}")
    return threads
