"""Threads for compiled functions which release the interpreter's lock: several for an input, or one for each."""

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar, cast

from camshaft.kernels.barrier import Member, members

Item = TypeVar("Item")
T = TypeVar("T")

_libc = ctypes.CDLL(None)


class Helper:
    """A thread that waits to be called.

    An executor's threads would do, but what it does about each call takes as long as a random walk's set-up.
    """

    def __init__(self) -> None:
        """Start the thread."""
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="kernel", daemon=True)
        self._thread.start()

    @property
    def number(self) -> int:
        """The kernel's number of the thread."""
        return cast(int, self._thread.native_id)

    def call(self, function: Callable[[], object]) -> None:
        """Begin function()."""
        self._calls.put(function)

    def answer(self) -> Any:
        """Wait for the function's result; raises what it raised."""
        result, error = self._answers.get()
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        """Wait until it has done what it was called for, and let it go."""
        self._calls.put(None)
        self._thread.join()

    def _serve(self) -> None:
        # each call in a frame of its own: nothing that it holds is kept until the next
        while self._served(self._calls.get()):
            pass

    def _served(self, function: Callable[[], object] | None) -> bool:
        if function is None:
            return False
        try:
            self._answers.put((function(), None))
        except BaseException as error:  # the caller's, whatever it is
            self._answers.put((None, error))
        return True


class Helpers:
    """The threads of a team but for the calling one, each with cores of its own.

    Left to itself the kernel wakes a thread on the core of the one that wakes it, which goes on to compute; within some
    milliseconds it would move one of them, but by then the work is done, by one thread.
    """

    def __init__(self, size: int) -> None:
        """Start so many threads."""
        self.threads = [Helper() for _ in range(size)]
        self._apart_from: tuple[int, set[int]] | None = None

    def move_apart(self) -> None:
        """Share out the cores that this process may use, but the calling thread's, if there are enough for all."""
        here, allowed = _libc.sched_getcpu(), os.sched_getaffinity(0)
        if (here, allowed) == self._apart_from:
            return
        others, count = sorted(allowed - {here}), len(self.threads)
        if count <= len(others):
            for k, helper in enumerate(self.threads):
                os.sched_setaffinity(helper.number, others[k::count])
            self._apart_from = here, allowed

    def end(self) -> None:
        """Wait until all have done what they were called for, and let them go."""
        for helper in self.threads:
            helper.end()


_idle: dict[int, list[Helpers]] = {}
"""By their number of threads, those that no team has now: to start a thread takes longer than many an input."""

os.register_at_fork(after_in_child=_idle.clear)  # threads don't survive a fork


class Team:
    """A number of threads, of which the calling one is the first."""

    def __init__(self, size: int, helpers: Helpers | None) -> None:
        """Take the others; a team of one needs none."""
        self.size, self._helpers = size, helpers

    def each(self, function: Callable[[Member], T]) -> list[T]:
        """Call function(member) for every member at once; returns their results in order.

        Whoever meets the others at the barrier (kernels/barrier.py) must not fail before: it is given up only when the
        calling thread fails.
        """
        first, *others = members(self.size)
        if self._helpers is None:
            return [function(first)]
        self._helpers.move_apart()
        try:
            for helper, member in zip(self._helpers.threads, others, strict=True):
                helper.call(partial(function, member))
            return [function(first), *(helper.answer() for helper in self._helpers.threads)]
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
        helpers = idle.pop()  # not a look before: another thread may take the last ones
    except IndexError:
        helpers = Helpers(size - 1)
    try:
        yield Team(size, helpers)
    except BaseException:
        helpers.end()  # what failed may still be at work there
        raise
    idle.append(helpers)


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
