"""The definition in plain NumPy, float64: affinities of pairs, the dense transition matrix and its power.

AffinityNet (Ahn and Kwak, CVPR 2018): a_ij = exp(-mean |f_i - f_j|), a_ii = 1; T = D^-1 A^∘β with
D_ii = Σ_j a_ij^β; the maps after t steps are vec(M*) = T^t vec(M).
"""

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.walk.stencil import first_pixels, half_disc, margin_of


def affinities(features: NDArray[np.float32], radius: int, border: str) -> NDArray[np.float64]:
    """a_ij of every pair: float64 (N, h, w), plane n holds that of p and p + half_disc(radius)[n] at p, and 0 where the
    partner lies outside the grid or the border rule excludes p.

    Args:
        features: (D, h, w).
        radius: pairs lie closer than this, in pixels of the grid.
        border: "psa" or "none".
    """
    values = features.astype(np.float64)
    size = (values.shape[1], values.shape[2])
    offsets = half_disc(radius)
    planes = np.zeros((len(offsets), *size))
    for plane, (dy, dx) in zip(planes, offsets.tolist(), strict=True):
        rows, columns = first_pixels(size, (dy, dx), margin_of(border, radius))
        here = values[:, rows, columns]
        there = values[:, rows.start + dy : rows.stop + dy, columns.start + dx : columns.stop + dx]
        plane[rows, columns] = np.exp(-np.abs(here - there).mean(axis=0))
    return planes


def transition_matrix(planes: NDArray[np.float32], radius: int, beta: float) -> NDArray[np.float64]:
    """T: float64 (h·w, h·w), each row sums to one. Weights of pairs that leave the grid are not looked at.

    The authors write T as A^∘β over its column sums and multiply from the right; A is symmetric, so that is the
    transpose of this T, and the same maps.
    """
    _, h, w = planes.shape
    index = np.arange(h * w).reshape(h, w)
    weights = np.eye(h * w)
    for plane, (dy, dx) in zip(planes.astype(np.float64), half_disc(radius).tolist(), strict=True):
        rows, columns = first_pixels((h, w), (dy, dx), 0)
        here = index[rows, columns]
        there = index[rows.start + dy : rows.stop + dy, columns.start + dx : columns.stop + dx]
        weights[here, there] = weights[there, here] = plane[rows, columns] ** beta
    transition: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return transition


def walk(
    planes: NDArray[np.float32], maps: NDArray[np.float32], radius: int, beta: float, steps: int
) -> NDArray[np.float64]:
    """The maps after `steps` steps: T^steps applied to each map, float64 (K, h, w)."""
    power = np.linalg.matrix_power(transition_matrix(planes, radius, beta), steps)
    walked: NDArray[np.float64] = maps.reshape(len(maps), -1).astype(np.float64) @ power.T
    return walked.reshape(maps.shape)
