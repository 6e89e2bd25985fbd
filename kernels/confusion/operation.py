"""The public functions: they check, pick an implementation and put the counts into matrices."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from camshaft.kernels.choice import choose
from camshaft.kernels.confusion import counting, reference
from camshaft.kernels.confusion.reference import VOID

MAX_CLASSES = VOID


def confusion(
    prediction: NDArray[np.integer], truth: NDArray[np.integer], num_classes: int, *, implementation: str = "auto"
) -> NDArray[np.int64]:
    """Count how often each class of `truth` is predicted as each class.

    Args:
        prediction: integers of any shape; values 0..num_classes-1 wherever truth is not 255.
        truth: integers of the same shape; values 0..num_classes-1, or 255 for pixels that are not counted.
        num_classes: classes with the background, 1..255.
        implementation: "auto", "numba" or "reference".

    Returns:
        int64 (num_classes, num_classes), rows truth, columns prediction.

    Raises:
        ValueError: no integers, shapes that differ, or a value outside the range.
    """
    prediction, truth = _integers("prediction", prediction), _integers("truth", truth)
    _check_classes(num_classes)
    if prediction.shape != truth.shape:
        raise ValueError(f"confusion: prediction is {prediction.shape} but truth is {truth.shape}")
    if choose("confusion", implementation, {"numba": None, "reference": None}) == "reference":
        return reference.confusion(prediction.astype(np.int64), truth.astype(np.int64), num_classes)
    matrix = np.zeros((num_classes, num_classes), np.int64)
    _explain(counting.count(prediction.reshape(-1), truth.reshape(-1), VOID, matrix), num_classes)
    return matrix


def sweep(
    scores: NDArray[np.float32],
    classes: ArrayLike,
    truth: NDArray[np.integer],
    thresholds: ArrayLike,
    num_classes: int,
    *,
    implementation: str = "auto",
) -> NDArray[np.int64]:
    """Confusion matrices of argmax([t, scores...]) for every background threshold t, in one pass over the maps.

    A tie goes to the first: a score equal to the threshold is background, and of equal scores the map that comes first
    in `scores` wins. Thresholds are compared as float32, the maps' own type.

    Args:
        scores: float32 (K, H, W), values in [0, 1]; K may be 0 (everything is background).
        classes: integers (K,), the label in 1..num_classes-1 of each map, none twice.
        truth: integers (H, W), values 0..num_classes-1, or 255 for pixels that are not counted.
        thresholds: finite (T,), in any order.
        num_classes: classes with the background, 1..255.
        implementation: "auto", "numba" or "reference" (one pass a threshold).

    Returns:
        int64 (T, num_classes, num_classes) in the order of `thresholds`; rows truth, columns prediction.

    Raises:
        ValueError: a shape, a type or a value is not as above.
    """
    truth, labels = _integers("truth", truth), np.asarray(classes, dtype=np.int64)
    _check_classes(num_classes)
    levels = np.asarray(thresholds, dtype=np.float32)
    if scores.dtype != np.float32 or scores.ndim != 3:
        raise ValueError(f"confusion: scores must be float32 (K, H, W), not {scores.dtype} {scores.shape}")
    if truth.shape != scores.shape[1:]:
        raise ValueError(f"confusion: scores are {scores.shape[1:]} a map but truth is {truth.shape}")
    if labels.shape != scores.shape[:1] or len(np.unique(labels)) != labels.size:
        raise ValueError(f"confusion: {len(scores)} maps need as many different classes, not {labels.tolist()}")
    if labels.size and (labels.min() < 1 or labels.max() >= num_classes):
        raise ValueError(f"confusion: classes must lie in 1..{num_classes - 1}, not {labels.tolist()}")
    if levels.ndim != 1 or not np.isfinite(levels).all():
        raise ValueError("confusion: thresholds must be one row of finite numbers")
    if choose("threshold sweep", implementation, {"numba": None, "reference": None}) == "reference":
        _check_scores(scores)
        return reference.sweep(scores, labels, truth.astype(np.int64), levels, num_classes)
    return _sweep_once(scores, labels, truth, levels, num_classes)


def mean_iou(matrix: NDArray[np.int64]) -> tuple[float, NDArray[np.float64]]:
    """Intersection over union by PASCAL VOC's convention.

    Args:
        matrix: (N, N) counts, rows truth, columns prediction, summed over all images.

    Returns:
        The mean over the classes that occur, as a fraction, and float64 (N,) of each class: NaN where a class is
        neither in the truth nor predicted; such classes are left out of the mean (NaN if none is left).

    Raises:
        ValueError: `matrix` is not square.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"confusion: a confusion matrix is square, not {matrix.shape}")
    both = np.diagonal(matrix).astype(np.float64)
    either = matrix.sum(axis=0) + matrix.sum(axis=1) - both
    iou = np.full(len(matrix), np.nan)
    np.divide(both, either, out=iou, where=either > 0)
    known = iou[either > 0]
    return (float(known.mean()) if known.size else float("nan")), iou


def _sweep_once(
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    truth: NDArray[np.integer],
    levels: NDArray[np.float32],
    num_classes: int,
) -> NDArray[np.int64]:
    order = np.argsort(levels, kind="stable")
    matrices = np.zeros((levels.size, num_classes, num_classes), np.int64)
    if not len(scores):
        empty = np.zeros(truth.shape, np.uint8)
        matrices[:] = confusion(empty, truth, num_classes, implementation="numba")
        return matrices
    counts = np.zeros((levels.size + 1, num_classes, len(scores)), np.int64)
    flat = np.ascontiguousarray(scores).reshape(len(scores), -1)
    state = counting.count_buckets(flat, truth.reshape(-1), VOID, levels[order], counts)
    _explain(state, num_classes)
    # the pixels of bucket b are foreground for the b lowest thresholds: those of threshold i lie in the buckets above i
    foreground = counts[::-1].cumsum(axis=0)[::-1][1:]
    matrices[order[:, None], :, labels] = foreground.transpose(0, 2, 1)
    matrices[:, :, 0] = counts.sum(axis=(0, 2)) - matrices.sum(axis=2)
    return matrices


def _integers(name: str, values: NDArray[np.integer]) -> NDArray[np.integer]:
    """`values` contiguous, as uint8 if it is that already and else as int64: four compiled variants serve all types."""
    if values.dtype.kind not in "iu":
        raise ValueError(f"confusion: {name} must be integers, not {values.dtype}")
    return np.ascontiguousarray(values, np.uint8 if values.dtype == np.uint8 else np.int64)


def _check_classes(num_classes: int) -> None:
    if not 1 <= num_classes <= MAX_CLASSES:
        raise ValueError(f"confusion: num_classes must lie in 1..{MAX_CLASSES}, not {num_classes}")


def _check_scores(scores: NDArray[np.float32]) -> None:
    if not ((scores >= 0) & (scores <= 1)).all():
        _explain(counting.BAD_SCORE, 0)


def _explain(state: int, num_classes: int) -> None:
    """Raise the ValueError that a counting function's return value stands for."""
    if state == counting.BAD_SCORE:
        raise ValueError("confusion: scores must lie in [0, 1]")
    if state != counting.GOOD:
        name = "truth" if state == counting.BAD_TRUTH else "prediction"
        raise ValueError(f"confusion: {name} holds a value outside 0..{num_classes - 1}")
