"""The definition of both operations in plain NumPy: a joint histogram, and one such histogram a threshold.

Legend: K class maps, H×W pixels, T thresholds, N classes with the background as class 0.
"""

import numpy as np
from numpy.typing import NDArray

VOID = 255
"""The value of a truth pixel that is not counted."""


def confusion(prediction: NDArray[np.int64], truth: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Count how often each class of `truth` is predicted as each class: int64 (N, N), rows truth, columns prediction.

    Args:
        prediction: int64, any shape, values 0..N-1 wherever truth is not void.
        truth: int64, the same shape, values 0..N-1 or 255 (void, not counted).
        num_classes: N.

    Raises:
        ValueError: a counted value lies outside 0..N-1.
    """
    counted = truth != VOID
    t, p = truth[counted], prediction[counted]
    for name, values in (("truth", t), ("prediction", p)):
        if values.size and (values.min() < 0 or values.max() >= num_classes):
            raise ValueError(f"confusion: {name} holds a value outside 0..{num_classes - 1}")
    return np.bincount(t * num_classes + p, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def sweep(
    scores: NDArray[np.float32],
    classes: NDArray[np.int64],
    truth: NDArray[np.int64],
    thresholds: NDArray[np.float32],
    num_classes: int,
) -> NDArray[np.int64]:
    """Confusion matrices of argmax([t, scores...]) for every background threshold t: int64 (T, N, N).

    The argmax takes the first of equal values: the background wins a tie, then the class whose map comes first.

    Args:
        scores: float32 (K, H, W).
        classes: int64 (K,), the label in 1..N-1 of each map.
        truth: int64 (H, W), values 0..N-1 or 255.
        thresholds: float32 (T,).
        num_classes: N.
    """
    labels = np.concatenate([[0], classes])
    matrices = np.empty((len(thresholds), num_classes, num_classes), np.int64)
    for matrix, threshold in zip(matrices, thresholds, strict=True):
        background = np.full((1, *truth.shape), threshold, np.float32)
        prediction = labels[np.concatenate([background, scores]).argmax(axis=0)]
        matrix[...] = confusion(prediction, truth, num_classes)
    return matrices
