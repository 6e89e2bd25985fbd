"""A row of pixels in the appearance kernel's feature space: which simplices they lie in, and where in them.

Section 3.2 of Adams et al. (2010), in five dimensions: x, y, and three channels of colour.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.compiled import compiled
from camshaft.kernels.crf.tiles import WIDTH
from camshaft.kernels.simd import Lanes, broadcast, load, peek, poke, store_planes

D = 5
CORNERS = D + 1
SCALE = (np.sqrt(2 / 3) * CORNERS / np.sqrt([(i + 1) * (i + 2) for i in range(D)])).astype(np.float32)
ROWS = D + 2 * CORNERS  # of what is kept of a row of pixels: features, where they lie, and barycentric weights
ORDER_BITS = 15  # of a simplex's key: the ranks of its first five coordinates, three bits each

EIGHT = Lanes(8)

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
def less(a: np.float32, b: np.float32) -> np.float32:
    """Return 1 if a < b, else 0."""
    return np.float32(1) if a < b else np.float32(0)


@compiled()
def beyond(rank: np.float32) -> np.float32:
    """Return what to add to a coordinate, in steps of 6, for its rank to come to lie in 0..5."""
    return less(rank, np.float32(0)) - less(np.float32(D), rank)


@compiled()
def exchange(a: np.float32, b: np.float32) -> tuple[np.float32, np.float32]:
    """Return the smaller and the larger."""
    return (a, b) if a < b else (b, a)


@compiled()
def embed(row: Floats) -> None:
    """Find the simplices and the weights of a row (reference.embed).

    Its sums and products come in pydensecrf's order: on the edge between two simplices rounding decides. Whole numbers
    are float32 here too, which holds them exactly: all of a vector's lanes then have one width.

    Args:
        row: float32, flat (ROWS, WIDTH): the five features; then, filled in, the coordinates of the simplex's first
            vertex, divided by 6 and without the last, their ranks, as the digits of one octal number, and the six
            barycentric weights.
    """
    six, sixth, one, scale = np.float32(6), np.float32(1 / 6), np.float32(1), SCALE
    for x in range(WIDTH):
        # elevate
        f0, f1 = peek(row, x) * scale[0], peek(row, WIDTH + x) * scale[1]
        f2, f3 = peek(row, 2 * WIDTH + x) * scale[2], peek(row, 3 * WIDTH + x) * scale[3]
        f4 = peek(row, 4 * WIDTH + x) * scale[4]
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
        excess = n0 + n1 + n2 + n3 + n4 + n5
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
        r1 = excess + np.float32(1) - b01 + b12 + b13 + b14 + b15
        r2 = excess + np.float32(2) - b02 - b12 + b23 + b24 + b25
        r3 = excess + np.float32(3) - b03 - b13 - b23 + b34 + b35
        r4 = excess + np.float32(4) - b04 - b14 - b24 - b34 + b45
        r5 = excess + np.float32(5) - b05 - b15 - b25 - b35 - b45
        s0, s1, s2, s3, s4, s5 = beyond(r0), beyond(r1), beyond(r2), beyond(r3), beyond(r4), beyond(r5)
        i0, i1, i2, i3, i4, i5 = n0 + s0, n1 + s1, n2 + s2, n3 + s3, n4 + s4, n5 + s5
        poke(row, 5 * WIDTH + x, i0)
        poke(row, 6 * WIDTH + x, i1)
        poke(row, 7 * WIDTH + x, i2)
        poke(row, 8 * WIDTH + x, i3)
        poke(row, 9 * WIDTH + x, i4)
        low = (r0 + six * s0) + np.float32(8) * (r1 + six * s1) + np.float32(64) * (r2 + six * s2)
        poke(row, 10 * WIDTH + x, low + np.float32(512) * (r3 + six * s3) + np.float32(4096) * (r4 + six * s4))
        # barycentric weights are the gaps between the sorted differences: a sorting network
        t0, t5 = exchange((e0 - i0 * six) * sixth, (e5 - i5 * six) * sixth)
        t1, t3 = exchange((e1 - i1 * six) * sixth, (e3 - i3 * six) * sixth)
        t2, t4 = exchange((e2 - i2 * six) * sixth, (e4 - i4 * six) * sixth)
        t1, t2 = exchange(t1, t2)
        t3, t4 = exchange(t3, t4)
        t0, t3 = exchange(t0, t3)
        t2, t5 = exchange(t2, t5)
        t0, t1 = exchange(t0, t1)
        t2, t3 = exchange(t2, t3)
        t4, t5 = exchange(t4, t5)
        t1, t2 = exchange(t1, t2)
        t3, t4 = exchange(t3, t4)
        poke(row, 11 * WIDTH + x, one + (t0 - t5))
        poke(row, 12 * WIDTH + x, t1 - t0)
        poke(row, 13 * WIDTH + x, t2 - t1)
        poke(row, 14 * WIDTH + x, t3 - t2)
        poke(row, 15 * WIDTH + x, t4 - t3)
        poke(row, 16 * WIDTH + x, t5 - t4)


@compiled()
def put_weights(row: Floats, weights: Floats, pixel: int) -> None:
    """Put a row's barycentric weights into weights, flat (pixels, 8), from a pixel on; the last two are 0."""
    first, nothing = (D + CORNERS) * WIDTH, broadcast(np.float32(0), EIGHT)
    for x in range(first, first + WIDTH, EIGHT.width):
        planes = (
            load(row, x, EIGHT),
            load(row, x + WIDTH, EIGHT),
            load(row, x + 2 * WIDTH, EIGHT),
            load(row, x + 3 * WIDTH, EIGHT),
            load(row, x + 4 * WIDTH, EIGHT),
            load(row, x + 5 * WIDTH, EIGHT),
            nothing,
            nothing,
        )
        store_planes(weights, (pixel + x - first) * EIGHT.width, planes)


@compiled()
def name_simplices(row: Floats, strides: NDArray[np.int64], simplices: NDArray[np.int64]) -> None:
    """Fill simplices, int64 (WIDTH,), with keys that tell them apart.

    Args:
        row: float32, flat (ROWS, WIDTH), as `embed` leaves it.
        strides: of the vertices' keys; these fit 47 bits, so that float64 holds them.
    """
    k0, k1, k2 = np.float64(strides[0]), np.float64(strides[1]), np.float64(strides[2])
    k3, k4 = np.float64(strides[3]), np.float64(strides[4])
    for x in range(WIDTH):
        key = peek(row, 5 * WIDTH + x) * k0 + peek(row, 6 * WIDTH + x) * k1 + peek(row, 7 * WIDTH + x) * k2
        key += peek(row, 8 * WIDTH + x) * k3 + peek(row, 9 * WIDTH + x) * k4
        ranks = np.int64(peek(row, 10 * WIDTH + x))
        poke(simplices, x, ((np.int64(key) * CORNERS) << ORDER_BITS) + ranks)
