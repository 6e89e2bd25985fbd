"""The dense CRF's mean field, compiled but straight: a pixel at a time, for any standard deviations."""

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.compiled import compiled
from camshaft.kernels.crf import lattice
from camshaft.kernels.crf.parameters import Parameters


def mean_field(image: NDArray[np.uint8], unaries: NDArray[np.float32], parameters: Parameters) -> NDArray[np.float32]:
    """Return Q, float32 (U, L, H, W), of one image (H, W, 3) and several unaries (U, L, H, W) on one lattice."""
    height, width = image.shape[:2]
    y, x = (axis.reshape(-1).astype(np.float32) for axis in np.mgrid[:height, :width])
    place = np.stack([x, y], 1)
    colour = image.reshape(-1, 3).astype(np.float32)
    smoothness = lattice.build(
        (place / np.float32(parameters.gaussian_sxy)).astype(np.float32), parameters.gaussian_compat
    )
    features = [place / np.float32(parameters.bilateral_sxy), colour / np.float32(parameters.bilateral_srgb)]
    appearance = lattice.build(np.concatenate(features, 1).astype(np.float32), parameters.bilateral_compat)
    result = np.empty_like(unaries)
    for u, probabilities in enumerate(unaries):
        labels = len(probabilities)
        log_unary = np.log(np.clip(probabilities, np.float32(parameters.clip), 1)).reshape(labels, -1).T
        log_unary = np.ascontiguousarray(log_unary)
        q = np.empty_like(log_unary)
        softmax(log_unary, q)
        buffers = [np.empty((2, k.neighbours.shape[2], labels), np.float32) for k in (smoothness, appearance)]
        for _ in range(parameters.iterations):
            logits = log_unary.copy()
            for kernel, (one, other) in zip((smoothness, appearance), buffers, strict=True):
                lattice.splat(kernel.vertices, kernel.weights, q, one)
                blurred = lattice.blur(kernel.neighbours, one, other)
                lattice.slice_onto(kernel.vertices, kernel.weights, blurred, logits, np.float32(1))
            softmax(logits, q)
        result[u] = q.T.reshape(probabilities.shape)
    return result


@compiled(fastmath=True)
def softmax(logits: NDArray[np.float32], q: NDArray[np.float32]) -> None:
    """Softmax of logits (N, L) over the labels, into q."""
    for p in range(logits.shape[0]):
        highest = logits[p].max()
        total = np.float32(0)
        for label in range(logits.shape[1]):
            q[p, label] = np.exp(logits[p, label] - highest)
            total += q[p, label]
        for label in range(logits.shape[1]):
            q[p, label] /= total
