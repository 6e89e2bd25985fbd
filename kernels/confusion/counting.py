"""The compiled twin: the joint histogram, and the sweep as one histogram over (threshold bucket, truth, best map).

A pixel whose best score m belongs to map k is foreground exactly for the thresholds t < m. With the thresholds sorted
it is counted once, in the bucket b = number of thresholds below m; sums over the buckets give every matrix.

Legend: P pixels, K class maps, T sorted thresholds, N classes with the background as class 0.
"""

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.compiled import compiled

CELLS = 1024
"""Cells of the table which finds a score's bucket; each holds the number of thresholds that all its scores exceed."""

BLOCK = 1024
"""Pixels whose maximum is taken over all maps before they are counted: few enough to stay in the first-level cache."""

GOOD, BAD_TRUTH, BAD_PREDICTION, BAD_SCORE = 0, 1, 2, 3
"""What a counting function returns: all values were good, or the kind of value that was not."""


@compiled()
def count(prediction: NDArray[np.integer], truth: NDArray[np.integer], void: int, matrix: NDArray[np.int64]) -> int:
    """Add the pixels to `matrix` int64 (N, N); prediction and truth are (P,) of any integer type."""
    classes = matrix.shape[0]
    run = 0
    row, column = np.int64(0), np.int64(0)
    # masks consist of long runs of one pair: a run is counted in a register and added once
    for i in range(truth.size):
        t = np.int64(truth[i])
        if t == void:
            continue
        p = np.int64(prediction[i])
        if t != row or p != column:
            if t < 0 or t >= classes:
                return BAD_TRUTH
            if p < 0 or p >= classes:
                return BAD_PREDICTION
            matrix[row, column] += run
            row, column, run = t, p, 0
        run += 1
    matrix[row, column] += run
    return GOOD


@compiled()
def bucket_table(thresholds: NDArray[np.float32]) -> NDArray[np.int32]:
    """For each of the CELLS equal parts of [0, 1], the number of sorted thresholds below its lower edge: int32."""
    table = np.empty(CELLS + 1, np.int32)
    b = 0
    for cell in range(CELLS + 1):
        while b < thresholds.size and thresholds[b] < np.float32(cell) / np.float32(CELLS):
            b += 1
        table[cell] = b
    return table


@compiled()
def count_buckets(
    scores: NDArray[np.float32],
    truth: NDArray[np.integer],
    void: int,
    thresholds: NDArray[np.float32],
    counts: NDArray[np.int64],
) -> int:
    """Add every pixel to `counts` int64 (T + 1, N, K) at [bucket, truth, map of the maximum].

    Args:
        scores: float32 (K, P), K ≥ 1.
        truth: (P,) of any integer type.
        void: the value of truth that is not counted.
        thresholds: float32 (T,), sorted upwards.
    """
    maps, pixels = scores.shape
    table = bucket_table(thresholds)
    best = np.empty(BLOCK, np.float32)
    which = np.empty(BLOCK, np.int32)
    for start in range(0, pixels, BLOCK):
        size = min(BLOCK, pixels - start)
        good = True
        for i in range(size):
            s = scores[0, start + i]
            good &= (s >= np.float32(0)) & (s <= np.float32(1))
            best[i] = s
            which[i] = 0
        for k in range(1, maps):
            for i in range(size):
                s = scores[k, start + i]
                good &= (s >= np.float32(0)) & (s <= np.float32(1))
                above = s > best[i]
                best[i] = s if above else best[i]
                which[i] = np.int32(k) if above else which[i]
        if not good:
            return BAD_SCORE
        for i in range(size):
            t = np.int64(truth[start + i])
            if t == void:
                continue
            if t < 0 or t >= counts.shape[1]:
                return BAD_TRUTH
            s = best[i]
            b = table[np.int64(s * np.float32(CELLS))]
            while b < thresholds.size and thresholds[b] < s:
                b += 1
            counts[b, t, which[i]] += 1
    return GOOD
