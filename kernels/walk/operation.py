"""The public functions: they check, pick an implementation and cut the maps into groups for the compiled walk."""

from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.barrier import Member
from camshaft.kernels.choice import choose
from camshaft.kernels.team import Team, team, thread_count
from camshaft.kernels.walk import pairs, powers, product, reference, transition
from camshaft.kernels.walk.bundle import LANES
from camshaft.kernels.walk.layout import Transition, kept, line_of, scratch
from camshaft.kernels.walk.polynomial import power_coefficients, stretch
from camshaft.kernels.walk.stencil import column_heights, half_disc, margin_of

Array = NDArray[np.float32]
Method = Literal["chebyshev", "steps"]
POLYNOMIAL_SHARE = 0.9
"""What part of the tolerance the polynomial may take; the rest is for float32."""

LOWEST = -0.5
"""Where the polynomial's interval begins at first. No eigenvalue of T on photos was found below -0.44 with the border
rule "psa", and -0.16 with "none"; where one is, the walk is made again with all of [-1, 1]."""

SQUARINGS = {1.0: 0, 2.0: 1, 4.0: 2, 8.0: 3, 16.0: 4}
"""Powers that squaring gives, much quicker than the general power."""


def affinities(features: Array, radius: int = 5, border: str = "psa", *, implementation: str = "auto") -> Array:
    """exp(-mean |f_p - f_q|) of all pairs of pixels closer than `radius` (AffinityNet, CVPR 2018).

    Args:
        features: float32 (D, h, w), the embedding.
        radius: pairs lie closer than this, in pixels of the grid: 5 for AffinityNet, 5 or 10 for IRN.
        border: "psa", the authors' rule that the first pixel of a pair lies in [0, h - r) × [r, w - r), r = radius - 1;
            or "none", every pair in the grid.
        implementation: "auto", "numba" or "reference".

    Returns:
        float32 (N, h, w), N = len(half_disc(radius)): plane n holds, at p, the affinity of p and
        p + half_disc(radius)[n]; 0 where there is no such pair.

    Raises:
        ValueError: a wrong shape or dtype, an unknown border rule, or radius < 2.
    """
    if features.dtype != np.float32 or features.ndim != 3 or not features.size:
        raise ValueError(f"affinities: features must be float32 (D, h, w), not {features.dtype} {features.shape}")
    offsets, margin = half_disc(radius), margin_of(border, radius)
    available = {"numba": _why_not_numba(features.shape[2], radius), "reference": None}
    if choose("affinities", implementation, available) == "reference":
        return reference.affinities(features, radius, border).astype(np.float32)
    _, h, w = features.shape
    line = line_of(w)
    planes = np.full((len(offsets), h, w), np.inf, np.float32)
    near, sums = scratch("near", radius, pairs.TILE, line + 2 * LANES), scratch("sums", h, len(offsets), line)
    pairs.mean_distances(np.ascontiguousarray(features), offsets, margin, near, sums, planes)
    np.negative(planes, out=planes)
    return np.exp(planes, out=planes)


def walk(
    planes: Array,
    maps: Array,
    *,
    radius: int = 5,
    beta: float = 8.0,
    steps: int = 256,
    tolerance: float = 1e-4,
    method: Method = "chebyshev",
    implementation: str = "auto",
    threads: int | None = 1,
) -> Array:
    """T^steps applied to each map: AffinityNet's random walk (Ahn and Kwak, CVPR 2018).

    T = D⁻¹ A^∘beta, where A holds the affinities of all pairs of the stencil and 1 on its diagonal; every step replaces
    a pixel by the weighted mean of its neighbours, so that constant maps stay as they are. Weights under 1e-12 (after
    the power) count as 0.

    "steps" makes that many products; "chebyshev" replaces x^steps by a polynomial of degree about
    sqrt(2 steps log(4 / tolerance)) which differs from it by at most ε = 0.9 tolerance anywhere in [-1, 1], where all
    eigenvalues of T lie. Hence ‖error‖_D ≤ ε ‖maps‖_D in the norm weighted with the degrees, and for a single pixel p
    |error_p| ≤ ε sqrt(Σ_q d_q maps_q² / d_p); on maps in [0, 1] the largest error of a pixel stays below ε in
    practice. Rounding in float32 adds about 2e-6.

    Args:
        planes: float32 (N, h, w), values in [0, 1], as `affinities` makes them; values where the partner leaves
            the grid are not looked at.
        maps: float32 (K, h, w), finite: the classes present, and the background where it takes part.
        radius: the radius of `planes`; N = len(half_disc(radius)).
        beta: the Hadamard power, ≥ 0: 8 for AffinityNet, 10 for IRN.
        steps: ≥ 0: 256 (2⁸) for both.
        tolerance: of "chebyshev", relative to maps in [0, 1].
        method: "chebyshev" or "steps".
        implementation: "auto", "numba" or "reference" (a dense matrix power: (h·w)² floats).
        threads: how many share the rows ("numba" only); None for all of the process's cores. With many images at hand
            one a thread is quicker.

    Returns:
        float32 (K, h, w).

    Raises:
        ValueError: a wrong shape, dtype or range.
    """
    _check_shapes(planes, maps, radius)
    check_numbers(beta, steps, tolerance, method)
    available = {"numba": _why_not_numba(maps.shape[2], radius), "reference": None}
    chosen = choose("walk", implementation, available)
    if steps == 0 or not maps.size:
        _check_values(planes, maps)
        return maps.copy()
    if chosen == "reference":
        _check_values(planes, maps)
        return reference.walk(planes, maps, radius, beta, steps).astype(np.float32)
    error = None if method == "steps" else tolerance * POLYNOMIAL_SHARE
    with team(min(thread_count("walk", threads), maps.shape[1])) as workers:
        return _compiled_walk(planes, maps, radius, beta, steps, error, workers)


def _compiled_walk(
    planes: Array, maps: Array, radius: int, beta: float, steps: int, error: float | None, team: Team
) -> Array:
    """The walk by a polynomial to within `error`, or step by step if that is None."""
    if (squarings := SQUARINGS.get(beta, -1)) < 0:
        _check_values(planes, maps)
        planes, squarings = np.power(planes, np.float32(beta)), 0
    ready, given = np.ascontiguousarray(planes), np.ascontiguousarray(maps)
    offsets, sizes = half_disc(radius), _group_sizes(len(maps))
    transitions, x, y, total = _room(maps.shape[1:], radius - 1, sizes, team.size)
    out = np.empty(maps.shape, np.float32)
    row = len(total) // sizes[0]

    def run(member: Member, lowest: float) -> tuple[bool, bool]:
        t, first, largest = transitions[member.number], 0, (0,) * sizes[0]
        phase, in_order = transition.prepare(
            t, ready, squarings, offsets, given, np.array(sizes), x, y, total, member, largest
        )
        within = True
        for size in sizes:
            now, its = slice(first, first + size), slice(first * row, (first + size) * row)
            group, own_x, own_y, own_out = (0,) * size, x[its], y[its], out[now]
            if error is None:
                phase = powers.by_steps(t, own_x, own_y, steps, own_out, member, phase, group)
            else:
                c, wider = power_coefficients(steps, error, lowest), np.float32(stretch(lowest))
                phase, good = powers.by_polynomial(
                    t, given[now], own_x, own_y, total, c, wider, own_out, member, phase, group
                )
                within &= good
            first += size
        return in_order, within

    for lowest in (LOWEST, -1.0):
        found = team.each(partial(run, lowest=lowest))
        if not all(in_order for in_order, _ in found):
            _check_values(planes, maps)
        if all(within for _, within in found):
            break
    return out


def _room(
    size: tuple[int, ...], reach: int, groups: list[int], members: int
) -> tuple[list[Transition], Array, Array, Array]:
    """T, to be filled, for each member of the team, with room of its own for a row's sums; x, y, and the first group's
    total, as layout.py has maps, flat."""
    h, line = size[0], line_of(size[1])
    row = (h + 2 * reach) * line
    column_sums = (2 * reach + 1) * groups[0] * product.SUMS_LINE
    lengths = (h * line, h * line, row * sum(groups), row * sum(groups), row * groups[0], *[column_sums] * members)
    rest, begin, arrays = kept("walk", sum(lengths)), 0, []
    for length in lengths:
        arrays.append(rest[begin : begin + length])
        begin += length
    others, inverse, x, y, total, *sums = arrays
    # apart from the rest: where a pair leaves the grid, stands what former walks left there
    weights = kept("weights", (reach + h) * (reach + 1) * (2 * reach + 1) * line)
    heights, columns = column_heights(reach + 1), (0,) * reach
    return [Transition(weights, others, inverse, heights, columns, own, h, line) for own in sums], x, y, total


def _group_sizes(count: int) -> list[int]:
    """Maps go in threes and twos, so that two compiled variants serve all counts: 1 → [2], 4 → [2, 2], 5 → [3, 2]."""
    threes = count // 3 - (1 if count % 3 == 1 and count > 1 else 0)
    return [3] * threes + [2] * -(-(count - 3 * threes) // 2)


def _why_not_numba(width: int, radius: int) -> str | None:
    if width > product.MAX_WIDTH:
        return f"the grid is {width} pixels wide, more than {product.MAX_WIDTH}"
    if radius - 1 > product.MAX_REACH:
        return f"the radius is {radius}, more than {product.MAX_REACH + 1}"
    return None


def _check_shapes(planes: Array, maps: Array, radius: int) -> None:
    count = len(half_disc(radius))
    for name, array in (("planes", planes), ("maps", maps)):
        if array.dtype != np.float32 or array.ndim != 3:
            raise ValueError(f"walk: {name} must be float32 with three axes, not {array.dtype} {array.shape}")
    if len(planes) != count or planes.shape[1:] != maps.shape[1:]:
        raise ValueError(
            f"walk: radius {radius} on maps {maps.shape} needs planes {(count, *maps.shape[1:])}, not {planes.shape}"
        )


def _check_values(planes: Array, maps: Array) -> None:
    if planes.size and not (planes.min() >= 0 and planes.max() <= 1):
        raise ValueError("walk: affinities must lie in [0, 1]")
    if not np.isfinite(maps).all():
        raise ValueError("walk: maps must be finite")


def check_numbers(beta: float, steps: int, tolerance: float, method: str) -> None:
    """Raise ValueError unless the walk's numbers are in range."""
    if beta < 0 or steps < 0 or tolerance <= 0:
        raise ValueError(f"walk: beta {beta} and steps {steps} must be at least 0, tolerance {tolerance} above 0")
    if method not in ("chebyshev", "steps"):
        raise ValueError(f"walk: method must be 'chebyshev' or 'steps', not {method!r}")
