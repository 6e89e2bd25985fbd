"""The public functions: they check, pick an implementation and hand the compiled walk to its threads."""

from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.barrier import Member
from camshaft.kernels.choice import choose
from camshaft.kernels.team import Team, team, thread_count
from camshaft.kernels.walk import pairs, powers, product, reference
from camshaft.kernels.walk.bundle import LANES
from camshaft.kernels.walk.layout import line_of, scratch
from camshaft.kernels.walk.polynomial import power_coefficients, stretch
from camshaft.kernels.walk.room import room
from camshaft.kernels.walk.stencil import half_disc, margin_of

Array = NDArray[np.float32]
Method = Literal["chebyshev", "steps"]
POLYNOMIAL_SHARE = 0.9
"""What part of the tolerance the polynomial may take; the rest is for float32."""

INTERVALS = ((-0.5, 0.85), (-1.0, POLYNOMIAL_SHARE))
"""Where the polynomial's interval begins, and its part of the tolerance, at first and where that interval was too
small. On photos no eigenvalue of T was found below -0.44 with the border rule "psa", and -0.16 with "none"."""

NO_POLYNOMIAL = np.zeros(0, np.float32)
NO_POLYNOMIAL.setflags(write=False)  # like the coefficients of one: else compiled functions are compiled for both

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
    sqrt(3 / 2 steps log(4 / tolerance)) which differs from it by at most ε = 0.85 tolerance in [-1/2, 1], where the
    eigenvalues of T lie as a rule; where they don't, as is found afterwards, by one of degree
    sqrt(2 steps log(4 / tolerance)) for [-1, 1], where they always do. Hence ‖error‖_D ≤ 1.17 ε ‖maps‖_D in the norm
    weighted with the degrees, and for a single pixel p |error_p| ≤ 1.17 ε sqrt(Σ_q d_q maps_q² / d_p); on maps in
    [0, 1] the largest error of a pixel stays below ε in practice. Rounding in float32 adds about 2e-6.

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
    with team(min(thread_count("walk", threads), maps.shape[1])) as workers:
        return _compiled_walk(planes, maps, radius, beta, steps, None if method == "steps" else tolerance, workers)


def _compiled_walk(
    planes: Array, maps: Array, radius: int, beta: float, steps: int, tolerance: float | None, team: Team
) -> Array:
    """The walk by a polynomial to within `tolerance`, or step by step if that is None."""
    if (squarings := SQUARINGS.get(beta, -1)) < 0:
        _check_values(planes, maps)
        planes, squarings = np.power(planes, np.float32(beta)), 0
    planes, maps, offsets = np.ascontiguousarray(planes), np.ascontiguousarray(maps), half_disc(radius)
    out, (h, w) = np.empty(maps.shape, np.float32), maps.shape[1:]
    transitions, sizes, kinds, x, y, total = room((h, w), radius - 1, len(maps), team.size)

    def run(member: Member, power: powers.Power) -> tuple[bool, bool]:
        t, phase, in_order, bounded = transitions[member.number], 0, True, True
        for kind in kinds:
            phase, seen, within = powers.walk_groups(
                t, planes, squarings, offsets, maps, sizes, x, y, total, power, out, member, phase, kind
            )
            in_order, bounded = in_order and seen, bounded and within
        return in_order, bounded

    for lowest, share in INTERVALS:
        c = NO_POLYNOMIAL if tolerance is None else power_coefficients(steps, tolerance * share, lowest)
        found = team.each(partial(run, power=powers.Power(steps, c, np.float32(stretch(lowest)))))
        if not all(in_order for in_order, _ in found):
            _check_values(planes, maps)
        if all(bounded for _, bounded in found):
            break
    return out


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
