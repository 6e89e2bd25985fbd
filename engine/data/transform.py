"""Carrying out an augmentation with Pillow and NumPy: resize, flip, change colours, normalise, crop."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from camshaft.engine.data.augment import Drawn, Interpolation
from camshaft.engine.data.batch import Normalization
from camshaft.engine.data.colour import adjust
from camshaft.engine.stores import VOID

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def apply(
    image: NDArray[np.uint8],
    drawn: Drawn,
    normalization: Normalization,
    target: NDArray[np.generic] | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Augment and normalise one image, and its target alike.

    Args:
        image: (H, W, 3) RGB uint8.
        drawn: what happens to it.
        normalization: the network's.
        target: (H, W) uint8 labels: resized by nearest neighbour, padded with 255; or (C, h, w) float maps over the
            whole image at any resolution: resized bilinearly (pixels are areas: align_corners=False), padded with 0.

    Returns:
        (3, h, w) float32 image and (h, w) uint8 or (C, h, w) float32 target, h and w those of `drawn.window`.
    """
    _, _, height, width = drawn.window
    out = np.empty((3, height, width), np.float32)
    write_image(image, drawn, normalization, out)
    if target is None:
        return torch.from_numpy(out), None
    shape = (height, width) if target.ndim == 2 else (target.shape[0], height, width)
    out_target = np.empty(shape, np.uint8 if target.ndim == 2 else np.float32)
    write_target(target, drawn, out_target)
    return torch.from_numpy(out), torch.from_numpy(out_target)


def write_image(image: NDArray[np.uint8], drawn: Drawn, normalization: Normalization, out: NDArray[np.float32]) -> None:
    """Augment an (H, W, 3) image into `out`, (3, h, w) float32 of any strides."""
    image = adjust(resized(image, drawn.resized, drawn.interpolation), drawn.adjustments)
    inside, (x0, y0, x1, y1) = _overlap(drawn)
    if (y1 - y0, x1 - x0) != drawn.window[2:]:
        out.fill(0)
    _write_normalized(_flipped(image[y0:y1, x0:x1], drawn.flip), normalization, out[:, inside[0], inside[1]])


def write_target(target: NDArray[np.generic], drawn: Drawn, out: NDArray[np.generic]) -> None:
    """Augment (H, W) labels or (C, h, w) maps into `out`, which has the window's size."""
    inside, box = _overlap(drawn)
    if target.ndim == 2:
        out.fill(VOID)
        labels = resized(target.astype(np.uint8, copy=False), drawn.resized, "nearest")
        out[inside] = _flipped(labels[box[1] : box[3], box[0] : box[2]], drawn.flip)
        return
    out.fill(0)
    source_height, source_width = target.shape[1:]
    rows, columns = source_height / drawn.resized[0], source_width / drawn.resized[1]
    # Rounding may carry the far corner past the edge, which Pillow refuses.
    corner = min(box[2] * columns, source_width), min(box[3] * rows, source_height)
    part = (box[0] * columns, box[1] * rows, *corner)
    shape = (box[2] - box[0], box[3] - box[1])
    for channel, values in zip(out, target, strict=True):
        if values.any():
            plane = Image.fromarray(np.ascontiguousarray(values, np.float32))
            plane = plane.resize(shape, Image.Resampling.BILINEAR, box=part)
            channel[inside] = _flipped(np.asarray(plane), drawn.flip)


def normalized(image: NDArray[np.uint8], normalization: Normalization) -> torch.Tensor:
    """(H, W, 3) uint8 RGB → (3, H, W) float32, (x/255 − mean)/std."""
    out = np.empty((3, *image.shape[:2]), np.float32)
    _write_normalized(image, normalization, out)
    return torch.from_numpy(out)


def resized(
    image: NDArray[np.uint8], size: tuple[int, int], interpolation: Interpolation = "bicubic"
) -> NDArray[np.uint8]:
    """An (H, W[, 3]) uint8 image at size (h, w), antialiased when it shrinks (but for "nearest")."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), _FILTERS[interpolation]))


def _overlap(drawn: Drawn) -> tuple[tuple[slice, slice], tuple[int, int, int, int]]:
    """Where the image lies in the window, and the box (x0, y0, x1, y1) of it there, before it is flipped."""
    top, left, height, width = drawn.window
    full_height, full_width = drawn.resized
    y0, y1 = max(0, top), min(full_height, top + height)
    x0, x1 = max(0, left), min(full_width, left + width)
    inside = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    return inside, ((full_width - x1, y0, full_width - x0, y1) if drawn.flip else (x0, y0, x1, y1))


def _flipped(values: NDArray[Any], flip: bool) -> NDArray[Any]:
    return values[:, ::-1] if flip else values


def _write_normalized(image: NDArray[np.uint8], normalization: Normalization, out: NDArray[np.float32]) -> None:
    for channel in range(3):
        scale = np.float32(1 / (255 * normalization.std[channel]))
        shift = np.float32(normalization.mean[channel] / normalization.std[channel])
        np.multiply(image[:, :, channel], scale, out=out[channel])
        out[channel] -= shift
