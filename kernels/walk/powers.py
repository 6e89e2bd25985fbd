"""The two ways to T^t x, both made of products: a polynomial, and step by step.

A walk is one call from Python for each thread, from the affinities to the result: between two calls the threads, which
have just met, would wait for each other again, for the interpreter's lock.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.barrier import Member
from camshaft.kernels.claims import claim, finish
from camshaft.kernels.compiled import compiled
from camshaft.kernels.simd import broadcast, load, peek, store
from camshaft.kernels.walk.bundle import LANES, PIXELS
from camshaft.kernels.walk.layout import Transition, copy_out
from camshaft.kernels.walk.product import Step, shared_product
from camshaft.kernels.walk.transition import prepare

Array = NDArray[np.float32]

ROUNDING = np.float32(1.001)
"""How much larger a norm may seem through rounding."""


class Power(NamedTuple):
    """T^t, and how to get there.

    Attributes:
        steps: t.
        coefficients: those of the polynomial, float32; none for a product a step.
        stretch: of the polynomial's interval (polynomial.py), float32.
    """

    steps: int
    coefficients: Array
    stretch: np.float32


@compiled()
def walk_groups(
    t: Transition,
    planes: Array,
    squarings: int,
    offsets: NDArray[np.int64],
    given: Array,
    sizes: NDArray[np.int64],
    x: Array,
    y: Array,
    total: Array,
    power: Power,
    out: Array,
    member: Member,
    phase: int,
    maps: tuple[int, ...],
) -> tuple[int, bool, bool]:
    """Walk all groups of K maps, together with the other members; in phase 0 all is prepared first.

    Args:
        t, planes, squarings, offsets, sizes: those of `prepare`.
        given: the maps, (M, h, w).
        x, y: room for all groups, flat.
        total: for one group.
        power: what T^t is made of.
        out: the result, (M, h, w).
        member: which thread of how many.
        phase: that of the member.
        maps: a tuple whose length is K; in phase 0 that of the first group.

    Returns:
        The next phase; whether what this member saw of planes and maps was in order; whether the results are within the
        polynomial's bound, as the first member finds.
    """
    in_order = bounded = True
    if phase == 0:
        phase, in_order = prepare(t, planes, squarings, offsets, given, sizes, x, y, total, member, maps)
    row = (t.rows + 2 * len(t.columns)) * t.line
    first = 0
    for size in sizes:
        its, last = slice(first * row, (first + size) * row), min(first + size, given.shape[0])
        if size == len(maps) and power.coefficients.size == 0:
            phase = by_steps(t, x[its], y[its], power.steps, out[first:last], member, phase, maps)
        elif size == len(maps):
            phase, within_bound = by_polynomial(
                t, given[first:last], x[its], y[its], total, power, out[first:last], member, phase, maps
            )
            bounded &= within_bound
        first += size
    return phase, in_order, bounded


@compiled()
def by_polynomial(
    t: Transition,
    given: Array,
    x: Array,
    y: Array,
    total: Array,
    power: Power,
    out: Array,
    member: Member,
    phase: int,
    maps: tuple[int, ...],
) -> tuple[int, bool]:
    """out = Σ c_j T_j(X) given, from c_0 and c_1 on, by T_{j+1} = 2 X T_j - T_{j-1}, where X = 1 + stretch (T - 1).

    X has its eigenvalues in [-1, 1] where those of T lie in [1 - 2 / stretch, 1]. The members share each product, which
    is a phase, since it reads its neighbours' rows.

    Args:
        t: T.
        given: (K or fewer, h, w).
        x: the same maps in blocks; overwritten.
        y, total: scratch of the same size; the rows around y are zeros.
        power: c and the stretch.
        out: the result, of the shape of `given`.
        member: which thread of how many.
        phase: that of the member.
        maps: a tuple whose length is K.

    Returns:
        The next phase; whether the result is within the polynomial's bound, as the first member finds.
    """
    one, two, zero = np.float32(1), np.float32(2), np.float32(0)
    coefficients, stretch, degree = power.coefficients, power.stretch, power.coefficients.size - 1
    step = Step(one, zero, stretch, coefficients[0], coefficients[1], True)
    phase = shared_product(t, x, x, y, total, step, member, phase, maps)
    older, newer = x, y
    for j in range(2, degree + 1):
        b = c = zero
        if j % 2 or j == degree:  # two terms at a time: the older is at hand
            b, c = coefficients[j - 1] if j % 2 else zero, coefficients[j]
        step = Step(two, -one, two * stretch, b, c, False)
        phase = shared_product(t, newer, older, older, total, step, member, phase, maps)
        older, newer = newer, older
    phase = hand_out(t, total, out, member, phase, maps)
    return phase, member.number > 0 or within(t, given, newer, maps)


@compiled()
def by_steps(
    t: Transition, x: Array, y: Array, count: int, out: Array, member: Member, phase: int, maps: tuple[int, ...]
) -> int:
    """out = T^count x, a product a step; x and y are overwritten, the rest is as above. Returns the next phase."""
    one, zero = np.float32(1), np.float32(0)
    step = Step(one, zero, one, zero, zero, False)
    older, newer = x, y
    for _ in range(count):
        phase = shared_product(t, older, older, newer, newer, step, member, phase, maps)
        older, newer = newer, older
    return hand_out(t, older, out, member, phase, maps)


@compiled()
def hand_out(t: Transition, blocks: Array, out: Array, member: Member, phase: int, maps: tuple[int, ...]) -> int:
    """Copy the maps from blocks to out, together with the other members; returns the next phase."""
    done = 0
    while True:
        begin, end = claim(member, phase, t.rows)
        if begin == end:
            break
        copy_out(blocks, len(maps), len(t.columns), out, begin, end)
        done += end - begin
    return finish(member, phase, t.rows, done)


@compiled()
def within(t: Transition, given: Array, last: Array, maps: tuple[int, ...]) -> bool:
    """Whether no map's norm ‖·‖_D is larger in `last`, blocks, than in `given` (K or fewer, h, w).

    T_n of an eigenvalue outside the interval exceeds all that the polynomial does there; inside it is at most 1. So if
    `last`, T_n(X) given, is no larger than `given`, the polynomial has kept its bound (README.md).
    """
    count, h, w = given.shape
    values, reach, one = given.reshape(-1), len(t.columns), np.float32(1)
    for k in range(count):
        before, after = broadcast(np.float32(0), PIXELS), broadcast(np.float32(0), PIXELS)
        least = largest = np.float32(0)
        for y in range(h):
            for x in range(0, w, LANES):
                degrees = one + load(t.others, y * t.line + x, PIXELS)
                value = load(last, ((reach + y) * t.line + x) * len(maps) + k * LANES, PIXELS)
                after = after + degrees * value * value
                if x + LANES <= w:
                    value = load(values, (k * h + y) * w + x, PIXELS)
                    before = before + degrees * value * value
                    continue
                for i in range(x, w):
                    value_here = peek(values, (k * h + y) * w + i)
                    least += (one + peek(t.others, y * t.line + i)) * value_here * value_here
        store(t.sums, LANES, before)
        for i in range(LANES):
            least += t.sums[LANES + i]
        store(t.sums, LANES, after)
        for i in range(LANES):
            largest += t.sums[LANES + i]
        if not largest <= ROUNDING * least:
            return False
    return True
