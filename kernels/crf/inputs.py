"""What the dense CRF accepts."""

import numpy as np
from numpy.typing import NDArray


def check(image: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> None:
    """Raise ValueError unless image is uint8 (H, W, 3), and probabilities float32 (L, H, W) or (U, L, H, W), >= 0."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"crf: the image must be uint8 (H, W, 3), not {describe(image)}")
    if (
        not isinstance(probabilities, np.ndarray)
        or probabilities.dtype != np.float32
        or probabilities.ndim not in (3, 4)
    ):
        raise ValueError(
            f"crf: the probabilities must be float32 (L, H, W) or (U, L, H, W), not {describe(probabilities)}"
        )
    if probabilities.shape[-2:] != image.shape[:2]:
        raise ValueError(f"crf: the image is {image.shape[:2]} but the probabilities are {probabilities.shape[-2:]}")
    if image.size == 0 or probabilities.size == 0:
        raise ValueError(f"crf: nothing to do for an image of {image.shape} and probabilities of {probabilities.shape}")
    if probabilities.shape[-3] < 2:
        raise ValueError(f"crf: needs at least two labels, not {probabilities.shape[-3]}")
    lowest, highest = probabilities.min(), probabilities.max()
    if not lowest >= 0 or not np.isfinite(highest):
        raise ValueError(f"crf: the probabilities must be finite and >= 0; they span [{lowest}, {highest}]")


def describe(value: object) -> str:
    """Say what was given instead."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return type(value).__name__
