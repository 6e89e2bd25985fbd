"""From COCO's outlines to a label image: polygons and run lengths drawn over each other by one stated rule."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_codec

_LONGEST_SHIFT = 35
"""Bits of a run length, at most."""


@dataclass(frozen=True)
class Outline:
    """One annotation, to be drawn with a label."""

    segmentation: Any
    """As it stands in the file."""
    label: int
    """0 … 255."""
    area: float
    """As the file states it, pixels; NaN where it does not."""
    below_all: bool
    """Drawn before all others, whatever its area."""


def draw(outlines: Iterable[Outline], height: int, width: int, *, smallest_on_top: bool) -> NDArray[np.uint8]:
    """A label image (height, width), 0 where no outline is.

    Args:
        outlines: in the order of the file.
        height: of the image.
        width: of the image.
        smallest_on_top: of two that overlap the smaller one is seen, and of equal ones the first; else the last one in
            the order of the file.

    Raises:
        ValueError: a segmentation is not what it must be.
    """
    labels = np.zeros((height, width), np.uint8)
    drawn = []
    for position, outline in enumerate(outlines):
        inside = rasterised(outline.segmentation, height, width)
        area = float(inside.sum()) if np.isnan(outline.area) else outline.area
        order = (-area, -position) if smallest_on_top else (0.0, position)
        drawn.append((not outline.below_all, *order, outline.label, inside))
    for *_, label, inside in sorted(drawn, key=lambda one: one[:3]):
        labels[inside] = label
    return labels


def rasterised(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of one segmentation: (height, width).

    Args:
        segmentation: a list of polygons [x0, y0, x1, y1, …], or run lengths {size, counts}, counts a list of numbers
            or pycocotools' compressed text.
        height: of the image.
        width: of the image.

    Raises:
        ValueError: none of these, or it doesn't fit the image.
    """
    if isinstance(segmentation, list):
        polygons = [_checked_polygon(polygon, height, width) for polygon in segmentation]
        if not polygons:
            return np.zeros((height, width), np.bool_)
        counts = _counts(rle_codec.merge(rle_codec.frPyObjects(polygons, height, width))["counts"])
    elif isinstance(segmentation, dict) and segmentation.get("size") == [height, width]:
        counts = _checked_counts(segmentation.get("counts"))
    else:
        raise ValueError(f"segmentation: neither polygons nor run lengths of an image of {width}×{height}")
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise ValueError(f"segmentation: its run lengths don't add up to {height * width} pixels")
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return inside.reshape(width, height).T


def _checked_polygon(polygon: Any, height: int, width: int) -> list[float]:
    # pycocotools takes lists of four numbers for boxes, and draws lines of any length that it is told to.
    try:
        points = np.array(polygon, np.float64)
    except (TypeError, ValueError):
        points = np.zeros(0)
    if points.ndim != 1 or len(points) < 6 or len(points) % 2:
        raise ValueError("segmentation: a polygon has at least three points x, y")
    largest = np.where(np.arange(len(points)) % 2, height, width)
    if not ((points >= -largest) & (points <= 2 * largest)).all():
        raise ValueError(f"segmentation: a polygon lies far outside of its image of {width}×{height}")
    return [float(value) for value in points]


def _checked_counts(counts: Any) -> list[int]:
    if isinstance(counts, list) and all(type(count) is int for count in counts):
        return counts
    if isinstance(counts, str) and counts.isascii():
        return _counts(counts.encode())
    raise ValueError("segmentation: counts are neither numbers nor text")


def _counts(text: bytes) -> list[int]:
    """The run lengths that pycocotools' text stands for.

    Each number is written in characters of five bits, the lowest first, from the fourth on as the difference to the
    last but one. Read here because pycocotools' own reader trusts what it is given.

    Raises:
        ValueError: a character that can't be there, or the text ends within a number.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = character - 48
        if not 0 <= bits < 64 or shift > _LONGEST_SHIFT:
            raise ValueError("segmentation: its text is no run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("segmentation: its text ends within a run length")
    return counts
