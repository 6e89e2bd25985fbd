"""A row of pixels in the appearance kernel's feature space: which simplices they lie in, and where in them.

Section 3.2 of Adams et al. (2010), in five dimensions: x, y, and three channels of colour.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.compiled import compiled
from camshaft.kernels.crf.tiles import WIDTH
from camshaft.kernels.simd import peek, poke

D = 5
CORNERS = D + 1
SCALE = (np.sqrt(2 / 3) * CORNERS / np.sqrt([(i + 1) * (i + 2) for i in range(D)])).astype(np.float32)
ORDER_BITS = 15  # of a simplex's key: the ranks of its first five coordinates, three bits each

Floats = NDArray[np.float32]


class Places(NamedTuple):
    """A pixel's features by its column, by its row, and by the value of a channel; divided by their deviations.

    The quotients are rounded as pydensecrf rounds them.
    """

    x: Floats
    y: Floats
    colour: Floats


def places(height: int, width: int, sxy: float, srgb: float) -> Places:
    """Divide the features by their standard deviations."""
    return Places(
        np.arange(width, dtype=np.float32) / np.float32(sxy),
        np.arange(height, dtype=np.float32) / np.float32(sxy),
        np.arange(256, dtype=np.float32) / np.float32(srgb),
    )


@compiled()
def read_row(image: NDArray[np.uint8], y: int, left: int, wide: int, quotients: Places, features: Floats) -> None:
    """Set the features of a row of a tile."""
    pixels = image.reshape(-1)
    across, colour, down = quotients.x, quotients.colour, quotients.y[y]
    base = (y * image.shape[1] + left) * 3
    for x in range(wide):
        poke(features, x, peek(across, left + x))
        poke(features, WIDTH + x, down)
        poke(features, 2 * WIDTH + x, peek(colour, np.int64(peek(pixels, base + 3 * x))))
        poke(features, 3 * WIDTH + x, peek(colour, np.int64(peek(pixels, base + 3 * x + 1))))
        poke(features, 4 * WIDTH + x, peek(colour, np.int64(peek(pixels, base + 3 * x + 2))))


@compiled()
def less(a: np.float32, b: np.float32) -> np.int32:
    """Return 1 if a < b, else 0."""
    return np.int32(a < b)


@compiled()
def beyond(rank: np.int32) -> np.int32:
    """Return what to add to a coordinate, in steps of 6, for its rank to come to lie in 0..5."""
    return np.int32(rank < 0) - np.int32(rank > D)


@compiled()
def exchange(a: np.float32, b: np.float32) -> tuple[np.float32, np.float32]:
    """Return the smaller and the larger."""
    return (a, b) if a < b else (b, a)


@compiled()
def embed(
    features: Floats, pixel: int, size: int, strides: NDArray[np.int64], simplices: NDArray[np.int64], weights: Floats
) -> None:
    """Find the simplices and the weights of a row, whose first pixel is the tile's pixel-th (reference.embed).

    Its sums and products come in pydensecrf's order: on the edge between two simplices rounding decides.

    Args:
        features: float32, flat (5, WIDTH).
        pixel, size: the row's first pixel, and how many the tile has.
        strides: of the vertices' keys.
        simplices: int64 (WIDTH,), filled: keys that tell simplices apart.
        weights: float32, flat (6, size): the row's barycentric weights are filled in.
    """
    scale = SCALE
    six, sixth, one = np.float32(6), np.float32(1 / 6), np.float32(1)
    k0, k1, k2, k3, k4 = strides[0], strides[1], strides[2], strides[3], strides[4]
    for x in range(WIDTH):
        # elevate
        f0, f1 = peek(features, x) * scale[0], peek(features, WIDTH + x) * scale[1]
        f2, f3 = peek(features, 2 * WIDTH + x) * scale[2], peek(features, 3 * WIDTH + x) * scale[3]
        f4 = peek(features, 4 * WIDTH + x) * scale[4]
        sum3 = f4 + f3
        sum2 = sum3 + f2
        sum1 = sum2 + f1
        e0, e1, e2 = sum1 + f0, sum1 - f0, sum2 - np.float32(2) * f1
        e3, e4, e5 = sum3 - np.float32(3) * f2, f4 - np.float32(4) * f3, -np.float32(5) * f4
        # the nearest remainder-0 point, and the ranks of the differences from it
        n0, n1, n2 = np.rint(e0 * sixth), np.rint(e1 * sixth), np.rint(e2 * sixth)
        n3, n4, n5 = np.rint(e3 * sixth), np.rint(e4 * sixth), np.rint(e5 * sixth)
        d0, d1, d2, d3, d4, d5 = (
            e0 - n0 * six,
            e1 - n1 * six,
            e2 - n2 * six,
            e3 - n3 * six,
            e4 - n4 * six,
            e5 - n5 * six,
        )
        excess = np.int32(n0 + n1 + n2 + n3 + n4 + n5)
        b01, b02, b03, b04, b05 = less(d0, d1), less(d0, d2), less(d0, d3), less(d0, d4), less(d0, d5)
        b12, b13, b14, b15 = less(d1, d2), less(d1, d3), less(d1, d4), less(d1, d5)
        b23, b24, b25, b34, b35, b45 = (
            less(d2, d3),
            less(d2, d4),
            less(d2, d5),
            less(d3, d4),
            less(d3, d5),
            less(d4, d5),
        )
        r0 = excess + b01 + b02 + b03 + b04 + b05
        r1 = excess + np.int32(1) - b01 + b12 + b13 + b14 + b15
        r2 = excess + np.int32(2) - b02 - b12 + b23 + b24 + b25
        r3 = excess + np.int32(3) - b03 - b13 - b23 + b34 + b35
        r4 = excess + np.int32(4) - b04 - b14 - b24 - b34 + b45
        r5 = excess + np.int32(5) - b05 - b15 - b25 - b35 - b45
        s0, s1, s2, s3, s4, s5 = beyond(r0), beyond(r1), beyond(r2), beyond(r3), beyond(r4), beyond(r5)
        i0, i1, i2 = np.int32(n0) + s0, np.int32(n1) + s1, np.int32(n2) + s2
        i3, i4, i5 = np.int32(n3) + s3, np.int32(n4) + s4, np.int32(n5) + s5
        corner = np.int64(i0) * k0 + np.int64(i1) * k1 + np.int64(i2) * k2 + np.int64(i3) * k3 + np.int64(i4) * k4
        shape = (r0 + 6 * s0) + ((r1 + 6 * s1) << 3) + ((r2 + 6 * s2) << 6) + ((r3 + 6 * s3) << 9)
        shape += (r4 + 6 * s4) << 12
        poke(simplices, x, ((corner * CORNERS) << ORDER_BITS) + np.int64(shape))
        # barycentric weights are the gaps between the sorted differences: a sorting network
        t0, t5 = exchange((e0 - np.float32(i0) * six) * sixth, (e5 - np.float32(i5) * six) * sixth)
        t1, t3 = exchange((e1 - np.float32(i1) * six) * sixth, (e3 - np.float32(i3) * six) * sixth)
        t2, t4 = exchange((e2 - np.float32(i2) * six) * sixth, (e4 - np.float32(i4) * six) * sixth)
        t1, t2 = exchange(t1, t2)
        t3, t4 = exchange(t3, t4)
        t0, t3 = exchange(t0, t3)
        t2, t5 = exchange(t2, t5)
        t0, t1 = exchange(t0, t1)
        t2, t3 = exchange(t2, t3)
        t4, t5 = exchange(t4, t5)
        t1, t2 = exchange(t1, t2)
        t3, t4 = exchange(t3, t4)
        poke(weights, pixel + x, one + (t0 - t5))
        poke(weights, size + pixel + x, t1 - t0)
        poke(weights, 2 * size + pixel + x, t2 - t1)
        poke(weights, 3 * size + pixel + x, t3 - t2)
        poke(weights, 4 * size + pixel + x, t4 - t3)
        poke(weights, 5 * size + pixel + x, t5 - t4)
