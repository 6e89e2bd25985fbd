"""The compiled affinities: the mean absolute difference of two pixels' features, for all pairs of the stencil.

Channels go in tiles of 8. Of a tile, the rows y … y + R lie in a buffer that the first-level cache holds, a ring in
which row y has the place y mod (R + 1): each row of the features is read once, and serves all pairs that it is part of.
"""

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.compiled import compiled
from camshaft.kernels.simd import load, store
from camshaft.kernels.walk.bundle import LANES, PIXELS, load_bundle, total_distance

TILE = 8
"""Channels of a tile: 8 channels, 5 rows and 64 pixels are 10 kB."""

CHANNELS = (0,) * TILE

Array = NDArray[np.float32]


@compiled()
def copy_row(features: Array, size: tuple[int, int, int], first: int, row: int, near: Array) -> None:
    """Copy row `row` of 8 channels from `first` on into its place in the ring; 0 where there is no such channel.

    Args:
        features: flat (D, h, w).
        size: (D, h, w).
        first: the tile's first channel.
        row: the row.
        near: (R + 1, TILE, S + 2 · LANES): a row begins LANES from the left; what stands beyond w is arbitrary.
    """
    channels, h, w = size
    places, _, stride = near.shape
    flat = near.reshape(-1)
    for c in range(TILE):
        target = (row % places * TILE + c) * stride + LANES
        source = ((first + c) * h + row) * w
        for x in range(0, w, LANES):
            if first + c < channels and source + x + LANES <= features.size:
                store(flat, target + x, load(features, source + x, PIXELS))
            else:
                for i in range(x, w):
                    flat[target + i] = features[source + i] if first + c < channels else np.float32(0)
                break


@compiled(fastmath=True)
def add_distances(near: Array, own: int, partners: NDArray[np.int64], sums: Array) -> None:
    """Add Σ_c |f_c(p) - f_c(p + offset)| over a tile's channels, for a row of pixels p, to sums (pairs, S).

    Args:
        near: the ring.
        own: where the first pixel p stands in the flat ring.
        partners: int64 (pairs,): where its partner p + offset stands.
        sums: float32 (N, S), of which the first `pairs` rows are added to.
    """
    line, stride = sums.shape[1], near.shape[2]
    tile, flat = near.reshape(-1), sums.reshape(-1)
    for x in range(0, line, LANES):
        here = load_bundle(tile, own + x, stride, CHANNELS)
        for n in range(partners.size):
            there = load_bundle(tile, partners[n] + x, stride, CHANNELS)
            at = n * line + x
            store(flat, at, load(flat, at, PIXELS) + total_distance(here, there))


@compiled()
def mean_distances(
    features: Array, offsets: NDArray[np.int64], margin: int, near: Array, sums: Array, planes: Array
) -> None:
    """Write mean_c |f_c(p) - f_c(p + offset)| into planes (N, h, w) wherever first_pixels (stencil.py) has a pair.

    Args:
        features: (D, h, w).
        offsets: int64 (N, 2), ordered by dy.
        margin: of first_pixels.
        near: zeros (R + 1, TILE, S + 2 · LANES).
        sums: zeros (h, N, S).
        planes: the result.
    """
    channels, h, w = features.shape
    flat = features.reshape(-1)
    places, _, stride = near.shape
    partners = np.empty(offsets.shape[0], np.int64)
    for first in range(0, channels, TILE):
        for row in range(min(places - 1, h)):
            copy_row(flat, features.shape, first, row, near)
        for row in range(h - margin):
            if row + places - 1 < h:
                copy_row(flat, features.shape, first, row + places - 1, near)
            inside = 0
            while inside < partners.size and row + offsets[inside, 0] < h:
                place = (row + offsets[inside, 0]) % places
                partners[inside] = place * TILE * stride + LANES + offsets[inside, 1]
                inside += 1
            add_distances(near, row % places * TILE * stride + LANES, partners[:inside], sums[row])
    for n in range(offsets.shape[0]):
        dx = offsets[n, 1]
        left = max(0, -dx, margin)
        right = max(left, min(w, w - dx, w - margin))
        for row in range(h - max(margin, offsets[n, 0])):
            target, source = planes[n, row, left:right], sums[row, n, left:right]
            for x in range(source.size):
                target[x] = source[x] / np.float32(channels)
