"""The four passes of suppression over one image, compiled for the CPU.

Each walks rows that stay in the first cache: in channels-last memory a row is one pixel's channels, in channels-first
memory a stretch of one channel's plane.

Legend: K channels, P pixels; arrays are float32; limits (2, K) are peak m and bound τ; sums (2, K) are the overshoot s
and the count of maxima n; shares (2, K) are the gradients dm/n and dμ/P of `camshaft.kernels.suppress.gradient`.
"""

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.compiled import compiled

Floats = NDArray[np.float32]

BLOCK = 32
"""Rows that are summed in float32 before their sum goes into a float64."""

STRETCH = 256
"""Pixels of a plane in one row."""


@compiled()
def _row_statistics(row: Floats, top: Floats, total: Floats) -> None:
    zero = np.float32(0)
    for i in range(row.size):
        value = zero if row[i] <= zero else row[i]
        top[i] = value if value > top[i] else top[i]
        total[i] += value


@compiled()
def _row_clamp(row: Floats, bound: Floats, out: Floats) -> None:
    zero = np.float32(0)
    for i in range(row.size):
        value = zero if row[i] <= zero else row[i]
        out[i] = bound[i] if value > bound[i] else value


@compiled()
def _row_overshoot(row: Floats, grad: Floats, limits: Floats, sums: Floats) -> None:
    zero, half, one = np.float32(0), np.float32(0.5), np.float32(1)
    for i in range(row.size):
        value = zero if row[i] <= zero else row[i]
        sums[0, i] += (one if value > limits[1, i] else half if value == limits[1, i] else zero) * grad[i]
        sums[1, i] += one if value == limits[0, i] else zero


@compiled()
def _row_spread(row: Floats, grad: Floats, limits: Floats, shares: Floats, out: Floats) -> None:
    zero, half, one = np.float32(0), np.float32(0.5), np.float32(1)
    for i in range(row.size):
        value = row[i]
        inner = (one if value < limits[1, i] else half if value == limits[1, i] else zero) * grad[i] + shares[1, i]
        inner += shares[0, i] if value == limits[0, i] else zero
        out[i] = zero if value <= zero else inner


@compiled()
def pixel_statistics(x: Floats, peak: Floats, mean: Floats) -> None:
    """Maximum and mean of relu(x), x (P, K), into peak and mean (K,)."""
    pixels, channels = x.shape
    total, part = np.zeros(channels), np.zeros(channels, np.float32)
    peak[:] = 0
    for first in range(0, pixels, BLOCK):
        part[:] = 0
        for p in range(first, min(first + BLOCK, pixels)):
            _row_statistics(x[p], peak, part)
        total += part
    mean[:] = total / pixels


@compiled()
def pixel_clamp(x: Floats, bound: Floats, y: Floats) -> None:
    """min(relu(x), bound), x (P, K) and bound (K,), into y (P, K)."""
    for p in range(x.shape[0]):
        _row_clamp(x[p], bound, y[p])


@compiled()
def pixel_overshoot(x: Floats, grad: Floats, limits: Floats, sums: Floats) -> None:
    """Sums of grad where relu(x), x (P, K), is above its bound, half where equal; and how many equal the peak."""
    pixels, channels = x.shape
    total, part = np.zeros((2, channels)), np.zeros((2, channels), np.float32)
    for first in range(0, pixels, BLOCK):
        part[:] = 0
        for p in range(first, min(first + BLOCK, pixels)):
            _row_overshoot(x[p], grad[p], limits, part)
        total += part
    sums[:] = total


@compiled()
def pixel_spread(x: Floats, grad: Floats, limits: Floats, shares: Floats, out: Floats) -> None:
    """The gradient of x (P, K): grad below the bound, plus a share at the maxima, plus a share; 0 where x ≤ 0."""
    for p in range(x.shape[0]):
        _row_spread(x[p], grad[p], limits, shares, out[p])


@compiled()
def plane_statistics(x: Floats, peak: Floats, mean: Floats) -> None:
    """As `pixel_statistics`, for x (K, P)."""
    channels, pixels = x.shape
    top, total = np.empty(STRETCH, np.float32), np.empty(STRETCH, np.float32)
    for k in range(channels):
        top[:] = 0
        total[:] = 0
        for first in range(0, pixels, STRETCH):
            _row_statistics(x[k, first : first + STRETCH], top, total)
        peak[k] = top.max()
        mean[k] = total.astype(np.float64).sum() / pixels


@compiled()
def plane_clamp(x: Floats, bound: Floats, y: Floats) -> None:
    """As `pixel_clamp`, for x (K, P)."""
    channels, pixels = x.shape
    bounds = np.empty(STRETCH, np.float32)
    for k in range(channels):
        bounds[:] = bound[k]
        for first in range(0, pixels, STRETCH):
            _row_clamp(x[k, first : first + STRETCH], bounds, y[k, first : first + STRETCH])


@compiled()
def plane_overshoot(x: Floats, grad: Floats, limits: Floats, sums: Floats) -> None:
    """As `pixel_overshoot`, for x (K, P)."""
    channels, pixels = x.shape
    wide, part = np.empty((2, STRETCH), np.float32), np.empty((2, STRETCH), np.float32)
    for k in range(channels):
        wide[0], wide[1] = limits[0, k], limits[1, k]
        part[:] = 0
        for first in range(0, pixels, STRETCH):
            _row_overshoot(x[k, first : first + STRETCH], grad[k, first : first + STRETCH], wide, part)
        sums[0, k], sums[1, k] = part[0].astype(np.float64).sum(), part[1].sum()


@compiled()
def plane_spread(x: Floats, grad: Floats, limits: Floats, shares: Floats, out: Floats) -> None:
    """As `pixel_spread`, for x (K, P)."""
    channels, pixels = x.shape
    wide, wide_shares = np.empty((2, STRETCH), np.float32), np.empty((2, STRETCH), np.float32)
    for k in range(channels):
        wide[0], wide[1] = limits[0, k], limits[1, k]
        wide_shares[0], wide_shares[1] = shares[0, k], shares[1, k]
        for first in range(0, pixels, STRETCH):
            last = first + STRETCH
            _row_spread(x[k, first:last], grad[k, first:last], wide, wide_shares, out[k, first:last])
