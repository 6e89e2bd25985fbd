"""Affinities and random walk on torch tensors, on any device, for a batch of images of one size.

Plain torch: the stencil's neighbours are windows of the padded maps, so that one product is one multiplication and one
sum, whatever the number of maps. Same conventions as operation.walk; the polynomial is that for [-1, 1], which never
has to be looked after.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from camshaft.kernels.walk.operation import POLYNOMIAL_SHARE, check_numbers
from camshaft.kernels.walk.polynomial import power_coefficients
from camshaft.kernels.walk.stencil import first_pixels, half_disc, margin_of


def affinities(features: Tensor, radius: int = 5, border: str = "psa") -> Tensor:
    """exp(-mean |f_p - f_q|) of all pairs of pixels closer than `radius`; differentiable.

    Args:
        features: floating point (B, D, h, w).
        radius: pairs lie closer than this, in pixels of the grid.
        border: "psa" or "none", as operation.affinities has them.

    Returns:
        (B, N, h, w) of the features' type: plane n holds, at p, the affinity of p and p + half_disc(radius)[n], or 0.

    Raises:
        ValueError: not four axes, an unknown border rule, or radius < 2.
    """
    if features.ndim != 4 or not features.is_floating_point():
        raise ValueError(f"affinities: features must be floating (B, D, h, w), not {features.dtype} {features.shape}")
    h, w = features.shape[2:]
    margin = margin_of(border, radius)
    planes = []
    for dy, dx in half_disc(radius).tolist():
        rows, columns = first_pixels((h, w), (dy, dx), margin)
        here = features[:, :, rows, columns]
        there = features[:, :, rows.start + dy : rows.stop + dy, columns.start + dx : columns.stop + dx]
        plane = torch.exp(-(here - there).abs().mean(dim=1))
        planes.append(pad(plane, (columns.start, w - columns.stop, rows.start, h - rows.stop)))
    return torch.stack(planes, dim=1)


def walk(
    planes: Tensor,
    maps: Tensor,
    *,
    radius: int = 5,
    beta: float = 8.0,
    steps: int = 256,
    tolerance: float = 1e-4,
    method: str = "chebyshev",
) -> Tensor:
    """T^steps applied to each map, as operation.walk does it, for B images at once.

    "chebyshev" differs from x^steps by at most ε = 0.9 tolerance on [-1, 1], hence ‖error‖_D ≤ ε ‖maps‖_D for each map
    in the norm weighted with the degrees (README.md), and a pixel's error on maps in [0, 1] stays below ε in practice;
    float32 adds about 2e-6.

    Args:
        planes: (B, N, h, w), values in [0, 1], N = len(half_disc(radius)).
        maps: (B, K, h, w), of the same type and on the same device; fill with zero maps where images have fewer.
        radius: the radius of `planes`.
        beta: the Hadamard power.
        steps: how many.
        tolerance: of "chebyshev", relative to maps in [0, 1].
        method: "chebyshev" or "steps".

    Returns:
        (B, K, h, w).

    Raises:
        ValueError: a wrong shape or number.
    """
    check_numbers(beta, steps, tolerance, method)
    expected = (len(maps), len(half_disc(radius)), *maps.shape[2:])
    if maps.ndim != 4 or planes.shape != expected:
        raise ValueError(f"walk: radius {radius} on maps {tuple(maps.shape)} needs planes {expected}")
    transition = _transition(planes, radius, beta)
    if method == "steps":
        for _ in range(steps):
            maps = _product(transition, maps)
        return maps
    coefficients = power_coefficients(steps, tolerance * POLYNOMIAL_SHARE).tolist()
    older, newer = maps, _product(transition, maps)
    total: Tensor = coefficients[0] * older + coefficients[1] * newer
    for coefficient in coefficients[2:]:
        older, newer = newer, 2 * _product(transition, newer) - older
        if coefficient:  # every other one is 0
            total += coefficient * newer
    return total


def _transition(planes: Tensor, radius: int, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """The weights (B, h, w, 2R + 1, 2R + 1) of the window around each pixel, 0 in its middle; their sum o; 1 / (1 + o).

    The last two are (B, 1, h, w).
    """
    size, reach = (planes.shape[2], planes.shape[3]), radius - 1
    weights = planes.new_zeros(len(planes), *size, 2 * reach + 1, 2 * reach + 1)
    for n, (dy, dx) in enumerate(half_disc(radius).tolist()):
        rows, columns = first_pixels(size, (dy, dx), 0)
        powered = planes[:, n, rows, columns] ** beta
        weights[:, rows, columns, reach + dy, reach + dx] = powered
        below, beside = (slice(s.start + d, s.stop + d) for s, d in ((rows, dy), (columns, dx)))
        weights[:, below, beside, reach - dy, reach - dx] = powered
    others = weights.sum(dim=(-2, -1))[:, None]
    return weights, others, 1 / (1 + others)


def _product(transition: tuple[Tensor, Tensor, Tensor], maps: Tensor) -> Tensor:
    """T maps, as a correction of the maps: see product.py."""
    weights, others, inverse = transition
    window = weights.shape[-1]
    around = pad(maps, (window // 2,) * 4).unfold(2, window, 1).unfold(3, window, 1)
    gathered = (weights[:, None] * around).sum(dim=(-2, -1))
    return torch.addcmul(maps, inverse, gathered - others * maps)
