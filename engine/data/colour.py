"""Changes of colour in one pass over an image: brightness, contrast, saturation and hue as torchvision defines them.

With x a channel of a pixel in 0 … 255, f the factor and grey(x) = 0.2989 r + 0.587 g + 0.114 b:

    brightness   x ← f x
    contrast     x ← f x + (1 − f) · mean of grey over the image
    saturation   x ← f x + (1 − f) · grey(x)
    hue          the angle of HSV is turned by f of a full turn

Each result is clipped to 0 … 255 and kept in float32; the last one is rounded.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from camshaft.engine.data.augment import Adjustment
from camshaft.kernels.compiled import compiled

Row = NDArray[np.float32]

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)
KINDS: tuple[Adjustment, ...] = ("brightness", "contrast", "saturation", "hue")
"""All changes, by their numbers."""
_RED, _GREEN, _BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)
_ZERO, _ONE, _TWO, _FOUR, _SIX, _FULL = (np.float32(value) for value in (0, 1, 2, 4, 6, 255))
_SIXTH = np.float32(1 / 6)
_TINY = np.float32(1e-6)


def adjust(image: NDArray[np.uint8], adjustments: Sequence[tuple[Adjustment, float]]) -> NDArray[np.uint8]:
    """Carry out changes of colour in the order given.

    Args:
        image: (H, W, 3) RGB uint8; stays as it is.
        adjustments: what to change, and the factor (1: nothing changes) or, for the hue, the part of a full turn (0).
    """
    if not adjustments:
        return image
    image = np.ascontiguousarray(image)
    kinds = np.array([KINDS.index(kind) for kind, _ in adjustments], np.int64)
    amounts = np.array([amount for _, amount in adjustments], np.float32)
    out = np.empty_like(image)
    adjust_into(image, kinds, amounts, out)
    return out


# The loops over a row are vectorised by LLVM: one change after another over a row in the nearest cache costs a third of
# one pixel after another, whose kinds of change would be branches in the innermost loop.


@compiled(fastmath=True)
def _blend(row: Row, factor: np.float32, offset: np.float32) -> None:
    for channel in range(3):
        for x in range(row.shape[1]):
            row[channel, x] = max(_ZERO, min(row[channel, x] * factor + offset, _FULL))


@compiled(fastmath=True)
def _saturate(row: Row, factor: np.float32) -> None:
    for x in range(row.shape[1]):
        grey = (_ONE - factor) * (_RED * row[0, x] + _GREEN * row[1, x] + _BLUE * row[2, x])
        row[0, x] = max(_ZERO, min(row[0, x] * factor + grey, _FULL))
        row[1, x] = max(_ZERO, min(row[1, x] * factor + grey, _FULL))
        row[2, x] = max(_ZERO, min(row[2, x] * factor + grey, _FULL))


@compiled(fastmath=True)
def _channel(angle: np.float32, phase: np.float32, value: np.float32, chroma: np.float32) -> np.float32:
    """A channel of the colour of this angle (in sixths of a turn, above 0): phase 5, 3, 1 for red, green, blue."""
    k = angle + phase
    k -= _SIX * np.floor(k * _SIXTH)
    level: np.float32 = value - chroma * max(_ZERO, min(k, _FOUR - k, _ONE))
    return level


@compiled(fastmath=True)
def _turn_hue(row: Row, turn: np.float32) -> None:
    for x in range(row.shape[1]):
        red, green, blue = row[0, x], row[1, x], row[2, x]
        value = max(red, green, blue)
        chroma = value - min(red, green, blue)
        inverse = _ONE / max(chroma, _TINY)
        angle = _FOUR + (red - green) * inverse
        angle = _TWO + (blue - red) * inverse if value == green else angle
        angle = (green - blue) * inverse if value == red else angle
        angle += _SIX * turn + _SIX
        row[0, x] = _channel(angle, np.float32(5), value, chroma)
        row[1, x] = _channel(angle, np.float32(3), value, chroma)
        row[2, x] = _channel(angle, np.float32(1), value, chroma)


@compiled(fastmath=True)
def _adjust_row(
    pixels: NDArray[np.uint8],
    kinds: NDArray[np.int64],
    amounts: NDArray[np.float32],
    means: NDArray[np.float32],
    row: Row,
) -> None:
    """One row of an image, (W, 3), with all changes made, into `row`, (3, W)."""
    for x in range(pixels.shape[0]):
        row[0, x] = pixels[x, 0]
        row[1, x] = pixels[x, 1]
        row[2, x] = pixels[x, 2]
    for step in range(len(kinds)):
        if kinds[step] == _BRIGHTNESS:
            _blend(row, amounts[step], _ZERO)
        elif kinds[step] == _CONTRAST:
            _blend(row, amounts[step], means[step] * (_ONE - amounts[step]))
        elif kinds[step] == _SATURATION:
            _saturate(row, amounts[step])
        else:
            _turn_hue(row, amounts[step])


@compiled(fastmath=True)
def _sum_of_grey(
    image: NDArray[np.uint8], kinds: NDArray[np.int64], amounts: NDArray[np.float32], means: NDArray[np.float32]
) -> float:
    """The sum of grey over an image after changes, which are not kept."""
    row = np.empty((3, image.shape[1]), np.float32)
    columns = np.zeros(image.shape[1], np.float32)  # a sum each: whole vectors at once
    for y in range(image.shape[0]):
        _adjust_row(image[y], kinds, amounts, means, row)
        for x in range(columns.size):
            columns[x] += _RED * row[0, x] + _GREEN * row[1, x] + _BLUE * row[2, x]
    total = 0.0
    for x in range(columns.size):
        total += float(columns[x])
    return total


@compiled(fastmath=True)
def adjust_into(
    image: NDArray[np.uint8],
    kinds: NDArray[np.int64],
    amounts: NDArray[np.float32],
    out: NDArray[np.uint8],
) -> None:
    """Carry out changes of colour, by number and amount, into `out` of the image's shape."""
    means = np.zeros(len(kinds), np.float32)
    for step in range(len(kinds)):
        if kinds[step] == _CONTRAST:
            grey = _sum_of_grey(image, kinds[:step], amounts[:step], means)
            means[step] = grey / (image.shape[0] * image.shape[1])
    row = np.empty((3, image.shape[1]), np.float32)
    for y in range(image.shape[0]):
        _adjust_row(image[y], kinds, amounts, means, row)
        for x in range(image.shape[1]):
            out[y, x, 0] = np.uint8(row[0, x] + np.float32(0.5))
            out[y, x, 1] = np.uint8(row[1, x] + np.float32(0.5))
            out[y, x, 2] = np.uint8(row[2, x] + np.float32(0.5))
