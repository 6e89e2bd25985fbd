"""Maps and masks laid over their photograph."""

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

MASK_OPACITY = 0.58
HEAT_OPACITY = 0.86
FADED = 0.55
"""Share of its colour that a photograph keeps where a mask has background, so that the labels stand out."""
PEAK = 0.7
"""Strength from which on a map turns from its class's colour towards white."""
LINE = 255.0
LINE_OPACITY = 0.75
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def mask_overlay(image: Image, labels: NDArray[np.uint8], colours: Image) -> Image:
    """Labels as tints with thin white borders; the background stays as photographed, a little faded.

    Args:
        image: (H, W, 3) RGB.
        labels: (H, W), 0 background, 1 … C, 255 void.
        colours: (256, 3) by label.
    """
    photo = image.astype(np.float32)
    grey = (photo @ LUMA)[..., None]
    shown = FADED * photo + (1 - FADED) * grey
    labelled = labels > 0
    shown[labelled] = (1 - MASK_OPACITY) * grey[labelled] + MASK_OPACITY * colours[labels[labelled]]
    _draw_borders(shown, labels)
    return _as_bytes(shown)


def heat_overlay(
    image: Image,
    maps: NDArray[np.float32],
    classes: NDArray[np.integer],
    colours: Image,
    labels: NDArray[np.uint8] | None,
) -> Image:
    """Maps as glow over a grey photograph: the colour is the strongest class's, the opacity its strength.

    Args:
        image: (H, W, 3) RGB.
        maps: (K, H, W) in [0, 1].
        classes: (K,) class indices from 0.
        colours: (256, 3) by label, which is class index + 1.
        labels: (H, W) labels whose borders are drawn, or None.
    """
    grey = (image.astype(np.float32) @ LUMA)[..., None]
    shown = np.repeat(0.8 * grey, 3, axis=2)
    if len(classes):
        strength = maps.max(0)[..., None]
        glow = colours[1:][classes[maps.argmax(0)]].astype(np.float32)
        glow += (255 - glow) * (0.3 / (1 - PEAK) * np.maximum(strength - PEAK, 0))
        # The photograph's light and shade go through, so that one sees what the map lies on.
        glow *= 0.8 + grey * (0.25 / 255)
        shown += HEAT_OPACITY * np.minimum(strength / 0.9, 1) * (glow - shown)
    if labels is not None:
        _draw_borders(shown, labels)
    return _as_bytes(shown)


def _draw_borders(shown: NDArray[np.float32], labels: NDArray[np.uint8]) -> None:
    """Draw a white line two pixels wide where neighbours have different labels."""
    border = np.zeros(labels.shape, bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    border[:, 1:] |= across
    border[:, :-1] |= across
    border[1:] |= down
    border[:-1] |= down
    shown[border] += LINE_OPACITY * (LINE - shown[border])


def _as_bytes(shown: NDArray[np.float32]) -> Image:
    return np.clip(np.rint(shown), 0, 255).astype(np.uint8)
