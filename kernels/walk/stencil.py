"""Which pixels are neighbours: the half disc of AffinityNet (Ahn and Kwak, CVPR 2018, section 3.2).

Pixels p = (y, x) and p + (dy, dx) are a pair if dy² + dx² < radius². Each pair is held once, by its first pixel, which
takes the half of the disc that lies to the right in its own row and in the rows below.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BORDERS = ("psa", "none")


@lru_cache
def half_disc(radius: int) -> NDArray[np.int64]:
    """The offsets (dy, dx), int64 (N, 2): 34 for radius 5, 152 for radius 10; (0, 1), (0, 2), … first, then by rows.

    Raises:
        ValueError: radius is less than 2, which leaves no neighbour.
    """
    if radius < 2:
        raise ValueError(f"walk: radius must be at least 2, not {radius}")
    reach = range(-radius + 1, radius)
    offsets = [(0, dx) for dx in range(1, radius)]
    offsets += [(dy, dx) for dy in range(1, radius) for dx in reach if dy * dy + dx * dx < radius * radius]
    return _constant(offsets)


@lru_cache
def column_heights(radius: int) -> NDArray[np.int64]:
    """The disc's largest |dy| at each |dx|: int64 (radius,)."""
    return _constant([max(dy for dy, dx in half_disc(radius).tolist() if abs(dx) == at) for at in range(radius)])


def _constant(values: list[int] | list[tuple[int, int]]) -> NDArray[np.int64]:
    array = np.array(values, np.int64)
    array.setflags(write=False)
    return array


def first_pixels(size: tuple[int, int], offset: tuple[int, int], margin: int) -> tuple[slice, slice]:
    """The rows and columns of the pixels p in a grid of `size` whose partner p + offset lies in it too.

    Args:
        size: (h, w) of the grid.
        offset: (dy, dx) with dy ≥ 0.
        margin: 0, or radius - 1 for the rule of AffinityNet's authors: the first pixel of a pair keeps that distance
            from the left, the right and the lower border, so that all its partners exist.
    """
    (h, w), (dy, dx) = size, offset
    bottom = max(0, h - max(dy, margin))
    left, right = max(0, -dx, margin), w - max(0, dx, margin)
    return slice(0, bottom), slice(min(left, w), max(min(left, w), right))


def margin_of(border: str, radius: int) -> int:
    """The margin of `first_pixels` for a border rule: "psa" (AffinityNet's authors) or "none" (IRN).

    Raises:
        ValueError: no such rule.
    """
    if border not in BORDERS:
        raise ValueError(f"walk: border must be one of {', '.join(BORDERS)}, not {border!r}")
    return radius - 1 if border == "psa" else 0
