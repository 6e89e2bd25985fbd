"""The public functions: they check, pick an implementation and cut the maps into groups for the compiled walk."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.barrier import Member
from camshaft.kernels.choice import choose
from camshaft.kernels.team import Team, team, thread_count
from camshaft.kernels.walk import pairs, product, reference
from camshaft.kernels.walk.bundle import LANES
from camshaft.kernels.walk.layout import Transition, from_blocks, kept, line_of, scratch, to_blocks
from camshaft.kernels.walk.polynomial import power_coefficients
from camshaft.kernels.walk.stencil import column_heights, half_disc, margin_of

Array = NDArray[np.float32]
Method = Literal["chebyshev", "steps"]
POLYNOMIAL_SHARE = 0.9
"""What part of the tolerance the polynomial may take; the rest is for float32."""

BITS_OF_ONE = np.float32(1).view(np.uint32)

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
    _check(planes, maps, radius)
    check_numbers(beta, steps, tolerance, method)
    available = {"numba": _why_not_numba(maps.shape[2], radius), "reference": None}
    chosen = choose("walk", implementation, available)
    if steps == 0 or not maps.size:
        return maps.copy()
    if chosen == "reference":
        return reference.walk(planes, maps, radius, beta, steps).astype(np.float32)
    error = None if method == "steps" else tolerance * POLYNOMIAL_SHARE
    with team(min(thread_count("walk", threads), maps.shape[1])) as workers:
        return _compiled_walk(planes, maps, radius, beta, steps, error, workers)


class Group(NamedTuple):
    """Maps that walk side by side; blocks and total as layout.py has maps, total flat; K of them from `first` on."""

    blocks: Array
    total: Array
    first: int
    maps: tuple[int, ...]


def _compiled_walk(
    planes: Array, maps: Array, radius: int, beta: float, steps: int, error: float | None, team: Team
) -> Array:
    """The walk by a polynomial to within `error`, or step by step if that is None."""
    _, h, w = maps.shape
    reach, offsets, groups = radius - 1, half_disc(radius), _groups(maps, radius - 1)
    largest = groups[0].maps
    if (squarings := SQUARINGS.get(beta, -1)) < 0:
        planes, squarings = np.power(planes, np.float32(beta)), 0
    planes = np.ascontiguousarray(planes)
    transitions = _transitions((h, w), reach, len(largest), team.size)
    ones = to_blocks(np.ones((len(largest), h, w), np.float32), reach, len(largest), "ones").reshape(-1)
    others = [scratch(f"y {k}", group.total.size) for k, group in enumerate(groups)]
    coefficients = None if error is None else power_coefficients(steps, error)

    def run(member: Member) -> None:
        t = transitions[member.number]
        phase = product.prepare(t, planes, squarings, offsets, ones, others[0], member, largest)
        for group, y in zip(groups, others, strict=True):
            x = group.blocks.reshape(-1)
            if coefficients is None:
                phase = product.steps(t, x, y, group.total, steps, member, phase, group.maps)
            else:
                phase = product.polynomial(t, x, y, group.total, coefficients, member, phase, group.maps)

    team.each(run)
    out = np.empty(maps.shape, np.float32)
    for group in groups:
        from_blocks(group.total.reshape(group.blocks.shape), out[group.first : group.first + len(group.maps)])
    return out


def _groups(maps: Array, reach: int) -> list[Group]:
    groups, first = [], 0
    for k, size in enumerate(_group_sizes(len(maps))):
        # a single map gets an empty one for company
        blocks = to_blocks(maps[first : first + size], reach, size, f"x {k}")
        groups.append(Group(blocks, scratch(f"total {k}", blocks.size), first, (0,) * size))
        first += size
    return groups


def _transitions(size: tuple[int, int], reach: int, largest: int, members: int) -> list[Transition]:
    """T, to be filled, for each member of the team, with room of its own for the sums of `largest` maps at once."""
    h, line = size[0], line_of(size[1])
    weights = kept("weights", (reach + h) * (reach + 1) * (2 * reach + 1) * line)
    others, inverse = kept("others", h * line), kept("inverse", h * line)
    sums = scratch("sums", members, (2 * reach + 1) * largest * product.SUMS_LINE)
    heights, columns = column_heights(reach + 1), (0,) * reach
    return [Transition(weights, others, inverse, heights, columns, own, h, line) for own in sums]


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


def _check(planes: Array, maps: Array, radius: int) -> None:
    count = len(half_disc(radius))
    for name, array in (("planes", planes), ("maps", maps)):
        if array.dtype != np.float32 or array.ndim != 3:
            raise ValueError(f"walk: {name} must be float32 with three axes, not {array.dtype} {array.shape}")
    if len(planes) != count or planes.shape[1:] != maps.shape[1:]:
        raise ValueError(
            f"walk: radius {radius} on maps {maps.shape} needs planes {(count, *maps.shape[1:])}, not {planes.shape}"
        )
    # as whole numbers, in one look: what is negative or NaN is larger than 1, and so is -0
    doubtful = planes.size > 0 and planes.view(np.uint32).max() > BITS_OF_ONE
    if doubtful and not (planes.min() >= 0 and planes.max() <= 1):
        raise ValueError("walk: affinities must lie in [0, 1]")
    if not np.isfinite(maps).all():
        raise ValueError("walk: maps must be finite")


def check_numbers(beta: float, steps: int, tolerance: float, method: str) -> None:
    """Raise ValueError unless the walk's numbers are in range."""
    if beta < 0 or steps < 0 or tolerance <= 0:
        raise ValueError(f"walk: beta {beta} and steps {steps} must be at least 0, tolerance {tolerance} above 0")
    if method not in ("chebyshev", "steps"):
        raise ValueError(f"walk: method must be 'chebyshev' or 'steps', not {method!r}")
