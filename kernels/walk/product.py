"""y = α x + γ z + κ (T - 1) x as a stencil: the compiled walk's one step.

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

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.barrier import Member
from camshaft.kernels.claims import claim, finish
from camshaft.kernels.compiled import compiled
from camshaft.kernels.simd import broadcast, load, scaled
from camshaft.kernels.walk.bundle import LANES, PIXELS, accumulated, added, flushed, load_bundle, store_bundle
from camshaft.kernels.walk.columns import store_column_sums
from camshaft.kernels.walk.layout import Transition

SUMS_LINE = 1056
"""Floats from one map's row of sums to the next. A constant keeps all addresses simple; 66 cache lines, not 64, spread
the rows over the sets of the cache."""

MAX_WIDTH = SUMS_LINE - 2 * LANES
MAX_REACH = LANES

Array = NDArray[np.float32]


class Step(NamedTuple):
    """The numbers of y = alpha x + gamma z + kappa (T - 1) x, total += b x + c y.

    Attributes:
        alpha, gamma, kappa: of x, of z and of the correction, float32.
        b, c: of x and y in total, float32; it is left alone where both are 0.
        fresh: whether total begins with them, whatever stands there.
    """

    alpha: np.float32
    gamma: np.float32
    kappa: np.float32
    b: np.float32
    c: np.float32
    fresh: bool


@compiled(fastmath=True)
def product(
    t: Transition,
    x: Array,
    z: Array,
    y: Array,
    total: Array,
    step: Step,
    begin: int,
    end: int,
    maps: tuple[int, ...],
) -> None:
    """Do a step with K maps, in rows begin to end.

    Args:
        t: T; t.sums holds (2R + 1) · K · SUMS_LINE floats.
        x: maps, flat, and so are z, y and total.
        z: another; y, the result, may be the same.
        step: what is computed.
        begin, end: rows.
        maps: a tuple whose length is K.
    """
    sums, line = t.sums, t.line
    reach, count = len(t.columns), len(maps)
    weights_row = (reach + 1) * (2 * reach + 1) * line
    maps_row = count * line
    column = count * SUMS_LINE
    nothing = broadcast(np.float32(0), PIXELS)
    for row in range(begin, end):
        for start in range(0, line, LANES):
            here = (reach + row) * maps_row + start * count
            pairs = (reach + row) * weights_row + reach * line + start
            store_column_sums(
                t.weights, pairs, line, x, here, maps_row, sums, LANES + start, SUMS_LINE, t.columns, maps
            )
        for start in range(0, line, LANES):
            here = (reach + row) * maps_row + start * count
            at = reach * column + LANES + start
            result = load_bundle(sums, at, SUMS_LINE, maps)
            for dx in range(1, reach + 1):
                right = load_bundle(sums, at + dx * column + dx, SUMS_LINE, maps)
                left = load_bundle(sums, at - dx * column - dx, SUMS_LINE, maps)
                result = added(result, added(right, left))
            own = load_bundle(x, here, LANES, maps)
            at = row * line + start
            correction = accumulated(nothing - load(t.others, at, PIXELS), own, result)
            kept = scaled(load_bundle(z, here, LANES, maps), broadcast(step.gamma, PIXELS))
            kept = accumulated(broadcast(step.alpha, PIXELS), own, kept)
            result = flushed(accumulated(load(t.inverse, at, PIXELS) * step.kappa, correction, kept))
            store_bundle(y, here, LANES, result)
            if step.b != np.float32(0) or step.c != np.float32(0):
                before = scaled(own, nothing) if step.fresh else load_bundle(total, here, LANES, maps)
                summed = accumulated(broadcast(step.b, PIXELS), own, before)
                store_bundle(total, here, LANES, accumulated(broadcast(step.c, PIXELS), result, summed))


@compiled()
def shared_product(
    t: Transition,
    x: Array,
    z: Array,
    y: Array,
    total: Array,
    step: Step,
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
        product(t, x, z, y, total, step, begin, end, maps)
        done += end - begin
    return finish(member, phase, t.rows, done)
