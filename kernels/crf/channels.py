"""The channels of a pixel: its labels, padded to whole vectors; or, of two or three labels, one less.

Marginals sum to one and filters are linear, so that differences are all the mean field needs: with d_c = q_c - q_last
and z_c likewise, d_c = (exp z_c - 1) / (1 + sum_k exp z_k), where k and c leave out the last label. Two labels then
need one channel, d = tanh(z / 2), and three need two.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels import simd
from camshaft.kernels.compiled import compiled

Floats = NDArray[np.float32]


class Channels(NamedTuple):
    """How the channels of a pixel lie in vectors.

    Attributes:
        lanes: of a pixel's vectors, and of a lattice's vertex.
        blocks: how many of these vectors a pixel has.
        flat: lanes of the vectors for what treats labels and pixels alike.
    """

    lanes: simd.Lanes
    blocks: int
    flat: simd.Lanes


ONE = Channels(simd.Lanes(1), 1, simd.Lanes(16))


def layout(labels: int) -> Channels:
    """Return the channels of a pixel with so many labels."""
    if labels <= 4:
        return Channels(simd.Lanes(4 if labels == 4 else labels - 1), 1, simd.Lanes(16))
    if labels <= 8:
        return Channels(simd.Lanes(8), 1, simd.Lanes(16))
    return Channels(simd.Lanes(8), -(-labels // 8), simd.Lanes(8))


@compiled()
def blocks_of(channels: Channels) -> int:
    """Return the blocks of a pixel: a constant, 1, where a vector may hold several, so that indices are shifted."""
    return 1 if channels.lanes.width < channels.flat.width else channels.blocks


@compiled()
def width_of(channels: Channels) -> int:
    """Return how many float32 a pixel has."""
    return channels.lanes.width * blocks_of(channels)


@compiled()
def keeps_differences(lanes: simd.Lanes) -> bool:
    """Return whether the channels are differences from the last label, not the labels themselves."""
    return lanes.width <= 2


@compiled()
def labels_of(lanes: simd.Lanes, labels: int) -> int:
    """Return the number of labels: a constant for narrow lanes, so that loops over them are unrolled."""
    if keeps_differences(lanes):
        return lanes.width + 1
    return lanes.width if lanes.width < 8 else labels
