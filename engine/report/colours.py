"""The classes' colours: the data set's palette, brought to a lightness at which it can be told apart on photographs."""

import colorsys

import numpy as np
from numpy.typing import NDArray

from camshaft.engine.data import VOID, DataSet

VOID_COLOUR = (236, 228, 208)
"""Pixels that carry no label."""

LEAST_LIGHTNESS, GREATEST_LIGHTNESS = 0.42, 0.72
LEAST_SATURATION, GREATEST_SATURATION = 0.55, 0.78
"""Palettes such as VOC's begin with near-black colours, made for masks on black; laid over a photo they vanish."""


def label_colours(data: DataSet) -> NDArray[np.uint8]:
    """Colours by label value: (256, 3), 0 background (black), 1 … C the classes, 255 void."""
    colours = np.zeros((256, 3), np.uint8)
    for label, value in enumerate(data.file_values[1:], 1):
        colours[label] = on_photographs(data.palette[value])
    colours[VOID] = VOID_COLOUR
    return colours


def on_photographs(colour: NDArray[np.uint8]) -> tuple[int, int, int]:
    """`colour` with its hue, lightness and saturation brought into the range that stands out on a photograph."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(int(channel) / 255 for channel in colour))
    lightness = LEAST_LIGHTNESS + (GREATEST_LIGHTNESS - LEAST_LIGHTNESS) * lightness
    if saturation:
        saturation = min(max(saturation, LEAST_SATURATION), GREATEST_SATURATION)
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
    return round(255 * red), round(255 * green), round(255 * blue)


def css(colour: NDArray[np.uint8]) -> str:
    """`colour` as CSS writes it."""
    return "#{:02x}{:02x}{:02x}".format(*(int(channel) for channel in colour))
