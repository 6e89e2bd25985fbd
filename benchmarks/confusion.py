"""The sweep of 30 background thresholds in one pass, against one pass a threshold; and one confusion matrix."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.harness import Case, RedError, main
from camshaft.kernels.confusion import confusion, sweep

THRESHOLDS = np.linspace(0, 1, 30)
VOC, COCO = (375, 500), (480, 640)


def maps(count: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """Blobs as class activation maps show them: (count, H, W), each from 0 to 1."""
    rng = np.random.default_rng(count)
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    scores = np.zeros((count, *size))
    for k in range(count):
        for cy, cx, radius, height in rng.uniform([0.15, 0.15, 0.08, 0.6], [0.85, 0.85, 0.22, 1], (3, 4)):
            distance = (y - cy * size[0]) ** 2 + (x - cx * size[1]) ** 2
            scores[k] += height * np.exp(-distance / (2 * (radius * size[1]) ** 2))
    scores -= scores.min(axis=(1, 2), keepdims=True)
    return np.asarray(scores / scores.max(axis=(1, 2), keepdims=True), np.float32)


def mask_of(scores: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A truth that the maps fit roughly, with a void border."""
    truth = np.where(scores.max(axis=0) > 0.4, scores.argmax(axis=0) + 1, 0).astype(np.uint8)
    truth[:5] = truth[:, :5] = 255
    return np.roll(truth, 9, axis=1)


def each_threshold(
    scores: NDArray[np.float32], labels: NDArray[np.uint8], truth: NDArray[np.uint8], num_classes: int
) -> NDArray[np.int64]:
    """One pass a threshold as well as it can be done: the maximum taken once, the compiled count each time."""
    best, label = scores.max(axis=0), labels[scores.argmax(axis=0)]
    levels = THRESHOLDS.astype(np.float32)
    return np.stack([confusion(np.where(best > t, label, np.uint8(0)), truth, num_classes) for t in levels])


def agreement(results: Mapping[str, NDArray[np.int64]]) -> str:
    expected = results["reference"]
    for name, result in results.items():
        if not np.array_equal(result, expected):
            raise RedError(f"{name} differs from the reference in {(result != expected).sum()} counts")
    return "all counts equal"


def sweep_case(name: str, count: int, size: tuple[int, int], num_classes: int) -> Case:
    scores, labels = maps(count, size), np.arange(1, count + 1, dtype=np.uint8)
    truth = mask_of(scores)
    call = partial(sweep, scores, labels, truth, THRESHOLDS, num_classes)
    contenders = {
        "reference": partial(call, implementation="reference"),
        "a pass a threshold, compiled": partial(each_threshold, scores, labels, truth, num_classes),
        "one pass": call,
    }
    return Case("sweep of 30", name, contenders, "reference", agreement, rounds=7)


def single_case(name: str, size: tuple[int, int], num_classes: int) -> Case:
    scores = maps(3, size)
    call = partial(confusion, mask_of(scores[:, ::-1]), mask_of(scores), num_classes)
    return Case(
        "confusion",
        name,
        {"reference": partial(call, implementation="reference"), "numba": call},
        "reference",
        agreement,
    )


CASES: dict[str, Callable[[], Case]] = {
    "sweep-voc": partial(sweep_case, "375×500, 2 maps, 21 classes", 2, VOC, 21),
    "sweep-coco": partial(sweep_case, "480×640, 4 maps, 81 classes", 4, COCO, 81),
    "single-voc": partial(single_case, "375×500, 21 classes", VOC, 21),
}

if __name__ == "__main__":
    sys.exit(main(__doc__ or "", CASES))
