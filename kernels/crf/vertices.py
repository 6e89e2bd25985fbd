"""The vertices of the appearance kernel's lattice: their numbers by key, and their neighbours."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.compiled import compiled
from camshaft.kernels.crf.embedding import CORNERS, D
from camshaft.kernels.crf.lattice import GOLDEN
from camshaft.kernels.simd import peek, poke


class Table(NamedTuple):
    """The vertices' numbers by key, open addressing.

    Attributes:
        slots: int32 (a power of two,): the number of the vertex, 0 where there is none.
        keys: int64 (vertices + 1,), by number.
    """

    slots: NDArray[np.int32]
    keys: NDArray[np.int64]


@compiled()
def find(slots: NDArray[np.int32], keys: NDArray[np.int64], key: np.int64) -> np.int64:
    """Return the slot that holds the vertex, or the empty slot where it belongs."""
    mask = len(slots) - 1
    slot = np.int64((np.uint64(key) * GOLDEN) >> np.uint64(32)) & mask
    while True:
        v = np.int64(peek(slots, slot))
        if v == 0 or peek(keys, v) == key:
            return slot
        slot = (slot + 1) & mask


@compiled()
def with_room(table: Table, count: int, more: int) -> Table:
    """Return a table that stays at most half full with `more` vertices: this one, or a larger one."""
    if 2 * (count + more) < len(table.slots):
        return table
    size = len(table.slots)
    while 2 * (count + more) >= size:
        size *= 2
    keys = np.empty(size + 1, np.int64)
    larger = Table(np.zeros(size, np.int32), keys)
    for v in range(1, count + 1):
        keys[v] = table.keys[v]
        larger.slots[find(larger.slots, larger.keys, keys[v])] = v
    return larger


@compiled()
def merge(table: Table, count: int, keys: NDArray[np.int64], others: int) -> tuple[Table, int, NDArray[np.int32]]:
    """Number another table's vertices here.

    Returns:
        The table, perhaps grown; how many vertices it has; and their numbers by those in the other table.
    """
    table = with_room(table, count, others)
    numbers = np.empty(others + 1, np.int32)
    for v in range(1, others + 1):
        slot = find(table.slots, table.keys, keys[v])
        if table.slots[slot] == 0:
            count += 1
            table.slots[slot] = count
            table.keys[count] = keys[v]
        numbers[v] = table.slots[slot]
    return table, count, numbers


@compiled()
def link(table: Table, count: int, axis: int, strides: NDArray[np.int64], neighbours: NDArray[np.int32]) -> None:
    """Fill an axis of neighbours, int32 flat (6, vertices + 1, 2): of every vertex those along it; 0 for none."""
    slots, keys = table.slots, table.keys
    step = np.int64(0)
    for i in range(D):
        step += strides[i]
    first = axis * (count + 1) * 2
    for i in range(first, first + (count + 1) * 2):
        poke(neighbours, i, np.int32(0))
    delta = step - CORNERS * strides[axis] if axis < D else step
    for v in range(1, count + 1):
        other = peek(slots, find(slots, keys, peek(keys, v) + delta))
        if other != 0:
            poke(neighbours, first + 2 * v + 1, other)
            poke(neighbours, first + 2 * np.int64(other), np.int32(v))
