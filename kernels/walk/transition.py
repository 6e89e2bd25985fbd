"""T and the maps of one image, put where the compiled walk wants them."""

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.barrier import Member
from camshaft.kernels.claims import claim, finish
from camshaft.kernels.compiled import compiled
from camshaft.kernels.simd import any_outside, broadcast, load, minimum, prefetch, store, without_small
from camshaft.kernels.walk.bundle import LANES, PIXELS
from camshaft.kernels.walk.layout import Transition, clear_around, copy_in, fill_ones
from camshaft.kernels.walk.product import SUMS_LINE, Step, product

LEAST_WEIGHT = 1e-12
"""Smaller weights count as none: 68 of them over 256 steps change a map by 2e-8, and denormal products are slow."""

Array = NDArray[np.float32]


@compiled()
def fill_weights(
    planes: Array, squarings: int, offsets: NDArray[np.int64], begin: int, end: int, weights: Array, line: int
) -> bool:
    """Put rows begin to end of planes (N, h, w), squared some times, into weights, flat (R + h, R + 1, 2R + 1, S).

    Returns whether all those affinities lie in [0, 1].
    """
    _, h, w = planes.shape
    values = planes.reshape(-1)
    zero, one, least, in_order = np.float32(0), np.float32(1), np.float32(LEAST_WEIGHT), True
    reach = offsets[offsets.shape[0] - 1, 0]
    for row in range(begin, end):
        for n in range(offsets.shape[0]):
            source = (n * h + row) * w
            target = (((reach + row) * (reach + 1) + offsets[n, 0]) * (2 * reach + 1) + reach + offsets[n, 1]) * line
            if source + line > values.size:  # the last row has no whole blocks behind it
                for x in range(w):
                    number = values[source + x]
                    in_order &= zero <= number <= one
                    for _ in range(squarings):
                        number *= number
                    weights[target + x] = min(number, one) if number >= least else zero
                continue
            for x in range(0, line, LANES):
                value = load(values, source + x, PIXELS)
                prefetch(values, source + w + x)
                in_order &= not any_outside(value, zero, one)
                for _ in range(squarings):
                    value = value * value
                value = minimum(value, broadcast(one, PIXELS))  # at most 1 even if it is not in order: see layout.py
                store(weights, target + x, without_small(value, least))
    return in_order


@compiled()
def fill_maps(
    t: Transition, maps: Array, sizes: NDArray[np.int64], x: Array, y: Array, ones: Array, begin: int, end: int
) -> bool:
    """Put rows begin to end of maps (K, h, w) into x, group by group, and 1 into `ones`, of the first group's size.

    The empty rows beside are cleared, in y too. Returns whether all those values are finite.
    """
    count, h, w = maps.shape
    reach = len(t.columns)
    first, finite = 0, True
    for size in sizes:
        start = (h + 2 * reach) * t.line * first
        given = min(size, count - first)
        finite &= copy_in(maps, first, given, x, start, size, reach, begin, end)
        clear_around(x, start, size * t.line, h, reach, begin, end)
        clear_around(y, start, size * t.line, h, reach, begin, end)
        first += size
    fill_ones(ones, sizes[0], w, reach, t.line, begin, end)
    clear_around(ones, 0, sizes[0] * t.line, h, reach, begin, end)
    return finite


@compiled()
def sum_weights(t: Transition, ones: Array, y: Array, width: int, begin: int, end: int, maps: tuple[int, ...]) -> None:
    """Fill rows begin to end of t.others and t.inverse; the other arguments are those of `prepare`.

    The sum o of a pixel's weights comes from the walk's own product, so that its rounding cancels and constant maps
    stay as they are.
    """
    one, zero = np.float32(1), np.float32(0)
    t.others[begin * t.line : end * t.line] = zero
    t.inverse[begin * t.line : end * t.line] = one
    product(t, ones, ones, y, y, Step(zero, zero, one, zero, zero, False), begin, end, maps)
    first = broadcast(one, PIXELS)
    for at in range(begin * t.line, end * t.line, LANES):
        others = load(y, (len(t.columns) * t.line + at) * len(maps), PIXELS)
        store(t.others, at, others)
        store(t.inverse, at, first / (first + others))
    for row in range(begin, end):
        t.others[row * t.line + width : (row + 1) * t.line] = zero
        t.inverse[row * t.line + width : (row + 1) * t.line] = zero


@compiled()
def clear_beside(t: Transition, count: int) -> None:
    """Clear what `product` finds beside the sums of `count` maps."""
    reach, nothing = len(t.columns), np.float32(0)
    for line in range((2 * reach + 1) * count):
        start = line * SUMS_LINE
        t.sums[start : start + LANES] = nothing
        t.sums[start + LANES + t.line : start + 2 * LANES + t.line] = nothing


@compiled()
def prepare(
    t: Transition,
    planes: Array,
    squarings: int,
    offsets: NDArray[np.int64],
    maps: Array,
    sizes: NDArray[np.int64],
    x: Array,
    y: Array,
    ones: Array,
    member: Member,
    largest: tuple[int, ...],
) -> tuple[int, bool]:
    """Fill T and x, shared with the other members.

    Args:
        t: T, filled.
        planes, squarings, offsets: those of `fill_weights`.
        maps: (K, h, w).
        sizes: of the groups in which they walk, the largest first.
        x: all groups' maps, flat.
        y: of the same size; only its empty rows are cleared.
        ones: scratch for one group.
        member: which thread of how many.
        largest: a tuple whose length is that of the first group.

    Returns:
        The next phase; whether what this member saw of planes and maps was in order.
    """
    clear_beside(t, len(largest))
    phase, done, in_order = 1, 0, True
    while True:
        begin, end = claim(member, phase, t.rows)
        if begin == end:
            break
        in_order &= fill_weights(planes, squarings, offsets, begin, end, t.weights, t.line)
        in_order &= fill_maps(t, maps, sizes, x, y, ones, begin, end)
        done += end - begin
    phase, done = finish(member, phase, t.rows, done), 0
    while True:
        begin, end = claim(member, phase, t.rows)
        if begin == end:
            break
        sum_weights(t, ones, y, planes.shape[2], begin, end, largest)
        done += end - begin
    return finish(member, phase, t.rows, done), in_order
