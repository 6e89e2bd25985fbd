"""The definition of the dense CRF's mean field, in NumPy: slow, and meant to be read beside the papers.

    N pixels, L labels, d feature dimensions, M lattice vertices

Krähenbühl and Koltun, "Efficient inference in fully connected CRFs with Gaussian edge potentials", NIPS 2011
(algorithm 1 and equation 4), with the filter of Adams, Baek and Davis, "Fast high-dimensional filtering using the
permutohedral lattice", Eurographics 2010. Where the papers leave room it does as pydensecrf does.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from camshaft.kernels.crf.parameters import Parameters

Floats = NDArray[np.floating]


def mean_field(
    image: NDArray[np.uint8], probabilities: Floats, parameters: Parameters, dtype: DTypeLike = np.float64
) -> Floats:
    """Return the approximate marginals Q of the dense CRF.

    Args:
        image: uint8 (H, W, 3).
        probabilities: (L, H, W), the unary's.
        parameters: the CRF's settings.
        dtype: precision of every step; float32 shows how much of an error is rounding.

    Returns:
        Q, `dtype` (L, H, W); sums to one over the labels.
    """
    labels, height, width = probabilities.shape
    log_unary = np.log(np.clip(probabilities, parameters.clip, 1)).reshape(labels, -1).astype(dtype)
    y, x = (axis.reshape(-1).astype(dtype) for axis in np.mgrid[:height, :width])
    colour = image.reshape(-1, 3).T.astype(dtype)
    smoothness = np.stack([x, y]) / dtype_of(dtype)(parameters.gaussian_sxy)
    appearance = np.concatenate(
        [
            np.stack([x, y]) / dtype_of(dtype)(parameters.bilateral_sxy),
            colour / dtype_of(dtype)(parameters.bilateral_srgb),
        ]
    )
    kernels = [
        (parameters.gaussian_compat, Filter(smoothness)),
        (parameters.bilateral_compat, Filter(appearance)),
    ]
    q = softmax(log_unary)
    for _ in range(parameters.iterations):
        # Potts compatibility: agreeing neighbours lower the energy of their label (up to a constant over the labels).
        q = softmax(log_unary + sum(compat * kernel(q) for compat, kernel in kernels))
    return q.reshape(probabilities.shape)


def dtype_of(dtype: DTypeLike) -> Any:
    """Return the scalar type, so that a Python float is rounded to it before it divides."""
    return np.dtype(dtype).type


def softmax(logits: Floats) -> Floats:
    """Softmax over the labels, axis 0."""
    exponentials = np.exp(logits - logits.max(0))
    result: Floats = exponentials / exponentials.sum(0)
    return result


class Filter:
    """Normalised Gaussian filter over any features: D^-1/2 K D^-1/2, with K the lattice's kernel and D = diag(K 1).

    Args:
        features: (d, N), each already divided by its standard deviation.
    """

    def __init__(self, features: Floats) -> None:
        """Build the lattice and the norm."""
        dimensions, count = features.shape
        # pydensecrf works on blocks of four points and fills the last block with points at the origin: they carry no
        # value, but their vertices exist and let the blur pass.
        padding = np.zeros((dimensions, -count % 4), features.dtype)
        vertices, weights = embed(np.concatenate([features, padding], 1))
        keys, index = np.unique(vertices.reshape(-1, dimensions), axis=0, return_inverse=True)
        self.index = index.reshape(dimensions + 1, -1)[:, :count]
        self.weights = weights[:, :count]
        self.neighbours = neighbours(keys)
        self.alpha = dtype_of(features.dtype)(1 / (1 + 2.0**-dimensions))
        self.norm = 1 / np.sqrt(self.lattice_filter(np.ones((1, count), features.dtype)) + 1e-20)

    def __call__(self, values: Floats) -> Floats:
        """Filter values (L, N)."""
        result: Floats = self.norm * self.lattice_filter(self.norm * values)
        return result

    def lattice_filter(self, values: Floats) -> Floats:
        """Splat, blur along each of the d + 1 axes, slice (Adams et al., section 3); values (L, N)."""
        rows = len(self.neighbours[0][0])
        lattice = np.zeros((len(values), rows + 1), values.dtype)  # the last column is the absent neighbour: always 0
        for row, value in zip(lattice, values, strict=True):
            np.add.at(row, self.index, self.weights * value)
        for before, after in self.neighbours:
            lattice[:, :-1] += (lattice[:, before] + lattice[:, after]) / 2
        result: Floats = self.alpha * (self.weights * lattice[:, self.index]).sum(1)
        return result


def embed(features: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Find each point's enclosing simplex and its barycentric weights in it (Adams et al., sections 3.1 and 3.2).

    Args:
        features: (d, N).

    Returns:
        the simplices' vertices, int64 (d + 1, N, d): the first d of a vertex's d + 1 coordinates, which sum to zero;
        weights (d + 1, N), which sum to one.
    """
    d, count = features.shape
    corners = d + 1
    elevated = elevate(features)
    # The nearest remainder-0 point, coordinate by coordinate; its sum may miss zero by a few times d + 1.
    nearest = np.rint(elevated / corners)
    excess = nearest.sum(0).astype(np.int64)
    difference = elevated - corners * nearest
    # rank[i]: how many coordinates differ by more than coordinate i; of two equals the later one ranks first.
    rank = np.zeros((corners, count), np.int64)
    for i in range(corners):
        for j in range(i + 1, corners):
            smaller = difference[i] < difference[j]
            rank[i] += smaller
            rank[j] += ~smaller
    rank += excess
    below, above = rank < 0, rank > d
    nearest += below.astype(features.dtype) - above.astype(features.dtype)
    rank += corners * (below.astype(np.int64) - above.astype(np.int64))
    # Barycentric weights are the gaps between the sorted differences.
    scaled = (elevated - corners * nearest) / corners
    descending = np.take_along_axis(scaled, np.argsort(rank, 0), 0)
    weights = np.empty((corners, count), features.dtype)
    weights[0] = 1 + descending[-1] - descending[0]
    for r in range(1, corners):
        weights[r] = descending[d - r] - descending[d - r + 1]
    vertices = np.empty((corners, count, d), np.int64)
    for r in range(corners):
        # Canonical simplex: vertex r adds r to the coordinates of rank <= d - r, and r - (d + 1) to the others.
        offset = np.where(rank[:d] <= d - r, r, r - corners)
        vertices[r] = (corners * nearest[:d].astype(np.int64) + offset).T
    return vertices, weights


def elevate(features: Floats) -> Floats:
    """Map (d, N) onto the plane of R^(d+1) whose coordinates sum to zero; there the blur is a unit Gaussian."""
    d = len(features)
    scale = np.sqrt(2 / 3) * (d + 1) / np.sqrt([(i + 1) * (i + 2) for i in range(d)])
    scaled = features * scale[:, None].astype(features.dtype)
    elevated = np.empty((d + 1, features.shape[1]), features.dtype)
    total = np.zeros_like(features[0])
    for j in range(d, 0, -1):
        elevated[j] = total - j * scaled[j - 1]
        total = total + scaled[j - 1]
    elevated[0] = total
    return elevated


def neighbours(keys: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return, for each of the d + 1 axes, every vertex's two neighbours; M stands for an absent one.

    Args:
        keys: (M, d), the vertices' first d coordinates, without repetition.
    """
    count, d = keys.shape
    position = {key: i for i, key in enumerate(map(tuple, keys.tolist()))}
    result = []
    for axis in range(d + 1):
        step = np.ones(d, np.int64)
        if axis < d:
            step[axis] = -d
        before, after = (
            np.array([position.get(key, count) for key in map(tuple, (keys + sign * step).tolist())], np.int64)
            for sign in (-1, 1)
        )
        result.append((before, after))
    return result
