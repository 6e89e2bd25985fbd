"""Seeds: stored maps brought to image size, and the label images that follow from them."""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

from camshaft.engine.data import VOID
from camshaft.engine.stores import Maps, MapStore


def at_image_size(maps: Maps, align_corners: bool) -> np.ndarray:
    """The maps of one image, bilinearly upsampled to its size.

    Args:
        maps: as the store has them.
        align_corners: the first and last cells of the grid stand on the image's first and last pixels; if not, cells
            are areas side by side. `of_image` asks the store which.

    Returns:
        float32 (K, H, W) in [0, 1], in the order of `maps.classes`.
    """
    height, width = maps.image_size
    if len(maps.classes) == 0:
        return np.zeros((0, height, width), np.float32)
    values = torch.from_numpy(np.ascontiguousarray(maps.values))
    upsampled = F.interpolate(values[None], size=(height, width), mode="bilinear", align_corners=align_corners)[0]
    # Interpolating between ones may give 1 + 1e-7, whose background score would be negative.
    return upsampled.clamp_(0, 1).numpy()


def of_image(store: MapStore, image_id: str) -> tuple[np.ndarray, np.ndarray]:
    """An image's maps at its size, float32 (K, H, W), and their classes, int64 (K,)."""
    maps = store.read(store.index(image_id))
    return at_image_size(maps, bool(store.provenance["align_corners"])), maps.classes


def background_score(maps: np.ndarray, alpha: float) -> np.ndarray:
    """(1 − max over the classes)^α, OC-CSE eq. 6.

    Args:
        maps: float32 (K, H, W) in [0, 1].
        alpha: the exponent; a larger one leaves less background.

    Returns:
        float32 (H, W); one everywhere where there are no classes.
    """
    strongest = maps.max(0, initial=0.0)
    return np.asarray((1.0 - strongest) ** np.float32(alpha), np.float32)


def with_background(background: np.ndarray | float, maps: np.ndarray) -> np.ndarray:
    """The background's score in front of the maps: float32 (1 + K, H, W)."""
    plane = np.broadcast_to(np.asarray(background, np.float32), maps.shape[1:])
    return np.concatenate([plane[None], maps])


def to_labels(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The label image of the strongest score at each pixel; the first wins a tie, so the background does.

    Args:
        scores: (1 + K, H, W), background first.
        classes: (K,) class indices from 0, as the map store has them.

    Returns:
        uint8 (H, W): 0 background, class index + 1 otherwise.
    """
    table = np.concatenate([[0], np.asarray(classes, np.int64) + 1]).astype(np.uint8)
    labels: np.ndarray = table[scores.argmax(0)]
    return labels


def confident_labels(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Labels that are sure, from CRF masks at two exponents of the background score, as psa makes them.

    A small α makes much of the background's score, so what it still calls a class is one; a large α makes little of
    it, so what it still calls background is background.

    Args:
        low: uint8 (H, W), the mask at the smaller α.
        high: uint8 (H, W), the mask at the larger α.

    Returns:
        uint8 (H, W): 0 where `high` is background, else the class of `low`, or 255 where that is background.
    """
    return np.where(high == 0, np.uint8(0), np.where(low == 0, np.uint8(VOID), low)).astype(np.uint8)
