"""y = α x + γ z + κ (T - 1) x as a stencil, and the two ways to T^t x that are built of it: the compiled walk.

A plain gather would load the map anew, unaligned, for each of the 68 neighbours. Instead each column offset dx gets its
own sum over the rows, in the frame of the neighbour's column q = p + dx:

    s_dx[q] = Σ_dy w(q - dx, dy, dx) x[q + dy],        y[p] = Σ_dx s_dx[p + dx]

so that x is loaded aligned, once for dx and -dx, and only the finished sums are read shifted. A pair's weight is stored
once, at its first pixel: at [y, dy, dx, x] for the neighbour below, and read again, from there, by the pixel below.

Hundreds of steps amplify every bias of rounding. So the terms are summed by column and then over the columns, not in
one long chain; and a pixel keeps its value and gets a correction,

    (T x)[p] = x[p] + (Σ_q w_pq x[q] - o_p x[p]) / (1 + o_p),        o_p = Σ_q w_pq over the neighbours q ≠ p,

which is small where the neighbours count for little or have the same value.
"""

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.barrier import Member
from camshaft.kernels.claims import claim, finish
from camshaft.kernels.compiled import compiled
from camshaft.kernels.simd import broadcast, load, scaled, store, without_small
from camshaft.kernels.walk.bundle import (
    LANES,
    PIXELS,
    accumulated,
    added,
    flushed,
    load_bundle,
    store_bundle,
)
from camshaft.kernels.walk.layout import Transition

SUMS_LINE = 1056
"""Floats from one map's row of sums to the next. A constant keeps all addresses simple; 66 cache lines, not 64, spread
the rows over the sets of the cache."""

MAX_WIDTH = SUMS_LINE - 2 * LANES
MAX_REACH = LANES
LEAST_WEIGHT = 1e-12
"""Smaller weights count as none: 68 of them over 256 steps change a map by 2e-8, and denormal products are slow."""

Array = NDArray[np.float32]


@compiled()
def fill_weights(
    planes: Array, squarings: int, offsets: NDArray[np.int64], begin: int, end: int, weights: Array, line: int
) -> None:
    """Put rows begin to end of planes (N, h, w), squared some times, into weights, flat (R + h, R + 1, 2R + 1, S)."""
    _, h, w = planes.shape
    values = planes.reshape(-1)
    reach = offsets[offsets.shape[0] - 1, 0]
    for n in range(offsets.shape[0]):
        for row in range(begin, end):
            source = (n * h + row) * w
            target = (((reach + row) * (reach + 1) + offsets[n, 0]) * (2 * reach + 1) + reach + offsets[n, 1]) * line
            for x in range(0, line, LANES):
                if source + x + LANES > values.size:
                    for i in range(x, w):
                        weights[target + i] = values[source + i]
                    value = load(weights, target + x, PIXELS)
                else:
                    value = load(values, source + x, PIXELS)
                for _ in range(squarings):
                    value = value * value
                store(weights, target + x, without_small(value, np.float32(LEAST_WEIGHT)))


@compiled(fastmath=True)
def product(
    t: Transition,
    x: Array,
    z: Array,
    y: Array,
    total: Array,
    alpha: np.float32,
    gamma: np.float32,
    kappa: np.float32,
    c: np.float32,
    begin: int,
    end: int,
    maps: tuple[int, ...],
) -> None:
    """y = alpha x + gamma z + kappa (T - 1) x and total += c y, for K maps, in rows begin to end.

    Args:
        t: T; t.sums holds (2R + 1) · K · SUMS_LINE floats.
        x: maps, flat, and so are z, y and total.
        z: what gamma is multiplied with.
        y: the result; it may be z.
        total: what c y is added to.
        alpha: factor of x.
        gamma: factor of z.
        kappa: factor of the correction.
        c: factor of y in total.
        begin, end: rows.
        maps: a tuple whose length is K.
    """
    weights, sums, heights, line = t.weights, t.sums, t.heights, t.line
    reach = len(t.columns)
    count = len(maps)
    band = (2 * reach + 1) * line  # from the weights of dy to those of dy + 1
    weights_row = (reach + 1) * band
    maps_row = count * line
    column = count * SUMS_LINE
    nothing = broadcast(np.float32(0), PIXELS)
    for row in range(begin, end):
        for start in range(0, line, LANES):
            here = (reach + row) * maps_row + start * count
            pairs = (reach + row) * weights_row + reach * line + start
            own = load_bundle(x, here, LANES, maps)
            straight = scaled(own, nothing)
            for dy in range(1, heights[0] + 1):
                below = load_bundle(x, here + dy * maps_row, LANES, maps)
                above = load_bundle(x, here - dy * maps_row, LANES, maps)
                straight = accumulated(load(weights, pairs + dy * band, PIXELS), below, straight)
                straight = accumulated(load(weights, pairs + dy * (band - weights_row), PIXELS), above, straight)
            store_bundle(sums, LANES + start, SUMS_LINE, straight)
            for dx in range(1, reach + 1):
                # `right` is the sum of pixels whose neighbour lies dx to the right, at q - dx; `left` that at q + dx
                pair = pairs + dx * line
                right = scaled(own, load(weights, pair - dx, PIXELS))
                left = scaled(own, load(weights, pair, PIXELS))
                for dy in range(1, heights[dx] + 1):
                    plus = pair + dy * band
                    minus = plus - 2 * dx * line
                    below = load_bundle(x, here + dy * maps_row, LANES, maps)
                    right = accumulated(load(weights, plus - dx, PIXELS), below, right)
                    left = accumulated(load(weights, minus + dx, PIXELS), below, left)
                    above = load_bundle(x, here - dy * maps_row, LANES, maps)
                    right = accumulated(load(weights, minus - dy * weights_row, PIXELS), above, right)
                    left = accumulated(load(weights, plus - dy * weights_row, PIXELS), above, left)
                store_bundle(sums, (2 * dx - 1) * column + LANES + start, SUMS_LINE, right)
                store_bundle(sums, 2 * dx * column + LANES + start, SUMS_LINE, left)
        for start in range(0, line, LANES):
            here = (reach + row) * maps_row + start * count
            at = LANES + start
            result = load_bundle(sums, at, SUMS_LINE, maps)
            for dx in range(1, reach + 1):
                right = load_bundle(sums, (2 * dx - 1) * column + at + dx, SUMS_LINE, maps)
                left = load_bundle(sums, 2 * dx * column + at - dx, SUMS_LINE, maps)
                result = added(result, added(right, left))
            own = load_bundle(x, here, LANES, maps)
            at = row * line + start
            correction = accumulated(nothing - load(t.others, at, PIXELS), own, result)
            kept = scaled(load_bundle(z, here, LANES, maps), broadcast(gamma, PIXELS))
            kept = accumulated(broadcast(alpha, PIXELS), own, kept)
            result = flushed(accumulated(load(t.inverse, at, PIXELS) * kappa, correction, kept))
            store_bundle(y, here, LANES, result)
            if c != np.float32(0):  # every other coefficient of a power is 0
                summed = load_bundle(total, here, LANES, maps)
                store_bundle(total, here, LANES, accumulated(broadcast(c, PIXELS), result, summed))


@compiled()
def sum_weights(t: Transition, ones: Array, y: Array, width: int, begin: int, end: int, maps: tuple[int, ...]) -> None:
    """Fill rows begin to end of t.others and t.inverse; the other arguments are those of `prepare`.

    The sum o of a pixel's weights comes from the walk's own product, so that its rounding cancels and constant maps
    stay as they are.
    """
    one, zero = np.float32(1), np.float32(0)
    t.others[begin * t.line : end * t.line] = zero
    t.inverse[begin * t.line : end * t.line] = one
    product(t, ones, ones, y, y, zero, zero, one, zero, begin, end, maps)
    first = broadcast(one, PIXELS)
    for at in range(begin * t.line, end * t.line, LANES):
        others = load(y, (len(t.columns) * t.line + at) * len(maps), PIXELS)
        store(t.others, at, others)
        store(t.inverse, at, first / (first + others))
    for row in range(begin, end):
        t.others[row * t.line + width : (row + 1) * t.line] = zero
        t.inverse[row * t.line + width : (row + 1) * t.line] = zero


@compiled()
def prepare(
    t: Transition,
    planes: Array,
    squarings: int,
    offsets: NDArray[np.int64],
    ones: Array,
    y: Array,
    member: Member,
    maps: tuple[int, ...],
) -> int:
    """Fill T, shared with the other members; returns the next phase.

    Args:
        t: T, filled.
        planes, squarings, offsets: those of `fill_weights`.
        ones: maps of 1, like x of `product`.
        y: scratch of the same size.
        member: which thread of how many.
        maps: a tuple whose length is K.
    """
    phase, done = 1, 0
    while True:
        begin, end = claim(member, phase, t.rows)
        if begin == end:
            break
        fill_weights(planes, squarings, offsets, begin, end, t.weights, t.line)
        done += end - begin
    phase, done = finish(member, phase, t.rows, done), 0
    while True:
        begin, end = claim(member, phase, t.rows)
        if begin == end:
            break
        sum_weights(t, ones, y, planes.shape[2], begin, end, maps)
        done += end - begin
    return finish(member, phase, t.rows, done)


@compiled()
def shared_product(
    t: Transition,
    x: Array,
    z: Array,
    y: Array,
    total: Array,
    alpha: np.float32,
    gamma: np.float32,
    kappa: np.float32,
    c: np.float32,
    member: Member,
    phase: int,
    maps: tuple[int, ...],
) -> int:
    """Do `product` on all rows, together with the other members; returns the next phase."""
    done = 0
    while True:
        begin, end = claim(member, phase, t.rows)
        if begin == end:
            break
        product(t, x, z, y, total, alpha, gamma, kappa, c, begin, end, maps)
        done += end - begin
    return finish(member, phase, t.rows, done)


@compiled()
def polynomial(
    t: Transition,
    x: Array,
    y: Array,
    total: Array,
    coefficients: Array,
    member: Member,
    phase: int,
    maps: tuple[int, ...],
) -> int:
    """total = Σ c_j T_j(T) x, from c_0 and c_1 on, by T_{j+1} = 2 T T_j - T_{j-1}; x and y are overwritten.

    Each product is a phase, since it reads its neighbours' rows. The rows around y are zeros. Returns the next phase.
    """
    one, two, zero = np.float32(1), np.float32(2), np.float32(0)
    reach, row, done = len(t.columns), len(maps) * t.line, 0
    while True:
        begin, end = claim(member, phase, t.rows)
        if begin == end:
            break
        for i in range((reach + begin) * row, (reach + end) * row):
            total[i] = coefficients[0] * x[i]
        product(t, x, x, y, total, one, zero, one, coefficients[1], begin, end, maps)
        done += end - begin
    phase = finish(member, phase, t.rows, done)
    older, newer = x, y
    for j in range(2, coefficients.size):
        c = coefficients[j]
        phase = shared_product(t, newer, older, older, total, two, -one, two, c, member, phase, maps)
        older, newer = newer, older
    return phase


@compiled()
def steps(
    t: Transition,
    x: Array,
    y: Array,
    total: Array,
    count: int,
    member: Member,
    phase: int,
    maps: tuple[int, ...],
) -> int:
    """total = T^count x, count ≥ 1, a product a step; x, y and total (zeros) are overwritten; the rest is as above."""
    one, zero = np.float32(1), np.float32(0)
    older, newer = x, y
    for step in range(count):
        last = one if step == count - 1 else zero
        phase = shared_product(t, older, older, newer, total, one, zero, one, last, member, phase, maps)
        older, newer = newer, older
    return phase
