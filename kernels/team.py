"""Threads for compiled functions which release the interpreter's lock: several for an input, or one for each."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from camshaft.kernels.barrier import Member, members

Item = TypeVar("Item")
T = TypeVar("T")

_idle: dict[int, list[ThreadPoolExecutor]] = {}
"""By their number of threads, those that no team has now: to start a thread takes longer than many an input."""

os.register_at_fork(after_in_child=_idle.clear)  # threads don't survive a fork


class Team:
    """A number of threads, of which the calling one is the first."""

    def __init__(self, size: int, pool: ThreadPoolExecutor | None) -> None:
        """Take the others from a pool; none is needed for a team of one."""
        self.size, self._pool = size, pool

    def each(self, function: Callable[[Member], T]) -> list[T]:
        """Call function(member) for every member at once; returns their results in order.

        Whoever meets the others at the barrier (kernels/barrier.py) must not fail before: it is given up only when a
        thread can't be started, or the calling one fails.
        """
        first, *others = members(self.size)
        if self._pool is None:
            return [function(first)]
        try:
            waiting = [self._pool.submit(function, member) for member in others]
            return [function(first), *(other.result() for other in waiting)]
        except BaseException:
            first.arrivals[1] = 1
            raise


@contextmanager
def team(size: int) -> Iterator[Team]:
    """Lend the threads of a team; nobody else gets them meanwhile, so that all members can meet."""
    if size == 1:
        yield Team(1, None)
        return
    idle = _idle.setdefault(size - 1, [])
    try:
        pool = idle.pop()  # not a look before: another thread may take the last one
    except IndexError:
        pool = ThreadPoolExecutor(size - 1, "kernel")
    try:
        yield Team(size, pool)
    except BaseException:
        pool.shutdown()  # what failed may still be at work there
        raise
    idle.append(pool)


def in_order(function: Callable[[Item], T], items: Iterable[Item], threads: int) -> Iterator[T]:
    """Yield function(item) of every item, in order, one item a thread; at most 2 * threads items are in memory."""
    with ThreadPoolExecutor(threads, "kernel") as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) == 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # an error, or a caller that stops early, must not wait for what nobody will take
            for future in waiting:
                future.cancel()


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
