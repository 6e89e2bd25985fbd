"""Where the compiled walk of one image works: its arrays, cut out of memory that a thread keeps from walk to walk."""

import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.walk.layout import Array, Transition, kept, line_of
from camshaft.kernels.walk.product import SUMS_LINE


class Room(NamedTuple):
    """What the walks of one size need.

    Attributes:
        transitions: T, to be filled, for each member of the team; the same arrays, but for the sums by column.
        sizes: int64, K of each group of maps that walk side by side, the largest first.
        kinds: for each K that occurs a tuple of that length, the largest first.
        x, y: as layout.py has maps, for all groups one after the other, flat.
        total: for one group.
    """

    transitions: list[Transition]
    sizes: NDArray[np.int64]
    kinds: list[tuple[int, ...]]
    x: Array
    y: Array
    total: Array


_last = threading.local()


def room(size: tuple[int, int], reach: int, count: int, members: int) -> Room:
    """The room for `count` maps (h, w) and so many members; valid until this thread asks for another."""
    key = size, reach, count, members
    if vars(_last).get("key") != key:
        _last.room, _last.key = _furnished(size, reach, count, members), key
    furnished: Room = _last.room
    return furnished


def _furnished(size: tuple[int, int], reach: int, count: int, members: int) -> Room:
    h, line = size[0], line_of(size[1])
    sizes = _group_sizes(count)
    row, all_maps = (h + 2 * reach) * line, sum(sizes)
    column_sums = (2 * reach + 1) * sizes[0] * SUMS_LINE
    lengths = (h * line, h * line, row * all_maps, row * all_maps, row * sizes[0], *[column_sums] * members)
    others, inverse, x, y, total, *sums = np.split(kept("walk", sum(lengths)), np.cumsum(lengths)[:-1])
    # apart from the rest: where a pair leaves the grid, stands what former walks left there
    weights = kept("weights", (reach + h) * (reach + 1) * (2 * reach + 1) * line)
    transitions = [Transition(weights, others, inverse, (0,) * reach, own, h, line) for own in sums]
    kinds: list[tuple[int, ...]] = [(0,) * maps for maps in dict.fromkeys(sizes)]
    return Room(transitions, np.array(sizes), kinds, x, y, total)


def _group_sizes(count: int) -> list[int]:
    """Maps go in threes and twos, so that two compiled variants serve all counts: 1 → [2], 4 → [2, 2], 5 → [3, 2]."""
    threes = count // 3 - (1 if count % 3 == 1 and count > 1 else 0)
    return [3] * threes + [2] * -(-(count - 3 * threes) // 2)
