"""The permutohedral lattice of Adams, Baek and Davis (2010), compiled.

N pixels, d feature dimensions, M vertices; vertex 0 is the absent one, whose value is always 0
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.compiled import compiled

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: multiplicative hashing


Floats = NDArray[np.float32]


class Lattice(NamedTuple):
    """Where pixels lie in the lattice, and how its vertices touch.

    Attributes:
        vertices: int32 (N, d + 1), the corners of each pixel's simplex.
        weights: float32 (N, d + 1), the pixel's barycentric weights, times the norm once `normalise` has run.
        neighbours: int32 (d + 1, 2, M + 1).
    """

    vertices: NDArray[np.int32]
    weights: NDArray[np.float32]
    neighbours: NDArray[np.int32]


@compiled()
def elevate(feature: Floats, scale: Floats, elevated: Floats) -> None:
    """Map one pixel's features onto the plane of R^(d + 1) whose coordinates sum to zero."""
    total = np.float32(0)
    for j in range(len(feature), 0, -1):
        scaled = feature[j - 1] * scale[j - 1]
        elevated[j] = total - np.float32(j) * scaled
        total += scaled
    elevated[0] = total


@compiled()
def enclose(elevated: Floats, nearest: Floats, rank: NDArray[np.int64]) -> None:
    """Find the remainder-0 corner of a point's simplex, in steps of d + 1, and the ranks of its differences."""
    corners = len(elevated)
    inverse = np.float32(1.0 / corners)
    excess = 0
    for i in range(corners):
        nearest[i] = np.rint(elevated[i] * inverse)
        excess += int(nearest[i])
    rank[:] = excess
    for i in range(corners - 1):
        for j in range(i + 1, corners):
            smaller = elevated[i] - nearest[i] * corners < elevated[j] - nearest[j] * corners
            rank[i if smaller else j] += 1
    for i in range(corners):
        shift = int(rank[i] < 0) - int(rank[i] >= corners)
        rank[i] += corners * shift
        nearest[i] += np.float32(shift)


@compiled()
def embed(features: Floats, keys: NDArray[np.int64], weights: Floats, strides: NDArray[np.int64]) -> None:
    """Fill the packed keys (N, d + 1) and the weights (N, d + 1) of features (N, d); section 3.2 of the paper."""
    count, d = features.shape
    corners = d + 1
    scale = np.empty(d, np.float32)
    for i in range(d):
        scale[i] = np.float32(1 / np.sqrt((i + 1.0) * (i + 2.0))) * np.float32(np.sqrt(2 / 3) * corners)
    inverse = np.float32(1.0 / corners)
    elevated, nearest = np.empty(corners, np.float32), np.empty(corners, np.float32)
    rank = np.empty(corners, np.int64)
    barycentric = np.empty(corners + 1, np.float32)
    for p in range(count):
        elevate(features[p], scale, elevated)
        enclose(elevated, nearest, rank)
        barycentric[:] = 0
        key = np.int64(0)
        for i in range(corners):
            scaled = (elevated[i] - nearest[i] * np.float32(corners)) * inverse
            barycentric[d - rank[i]] += scaled
            barycentric[corners - rank[i]] -= scaled
            if i < d:
                key += np.int64(nearest[i]) * corners * strides[i]
        barycentric[0] += np.float32(1) + barycentric[corners]
        for r in range(corners):
            weights[p, r] = barycentric[r]
            keys[p, r] = key
            for i in range(d):
                keys[p, r] += (r if rank[i] <= d - r else r - corners) * strides[i]


@compiled()
def number(
    keys: NDArray[np.int64], table: NDArray[np.int32], vertices: NDArray[np.int32], vertex_keys: NDArray[np.int64]
) -> int:
    """Number the distinct keys from 1 in order of appearance; returns how many there are."""
    mask = len(table) - 1
    shift = np.uint64(64 - int(np.round(np.log2(len(table)))))
    count = 0
    for p in range(keys.shape[0]):
        for r in range(keys.shape[1]):
            slot = find(table, vertex_keys, mask, shift, keys[p, r])
            if table[slot] == 0:
                count += 1
                table[slot] = count
                vertex_keys[count] = keys[p, r]
            if p < len(vertices):
                vertices[p, r] = table[slot]
    return count


@compiled()
def find(
    table: NDArray[np.int32], vertex_keys: NDArray[np.int64], mask: int, shift: np.uint64, key: np.int64
) -> np.int64:
    """Return the slot that holds the key's vertex, or the empty slot where it belongs."""
    slot = np.int64((np.uint64(key) * GOLDEN) >> shift)
    while table[slot] != 0 and vertex_keys[table[slot]] != key:
        slot = (slot + 1) & mask
    return slot


@compiled()
def link(
    count: int,
    table: NDArray[np.int32],
    vertex_keys: NDArray[np.int64],
    strides: NDArray[np.int64],
    neighbours: NDArray[np.int32],
) -> None:
    """Fill the neighbours of every vertex along the d + 1 axes."""
    mask = len(table) - 1
    shift = np.uint64(64 - int(np.round(np.log2(len(table)))))
    d = len(strides)
    for axis in range(d + 1):
        step = np.int64(0)
        for i in range(d):
            step += (-d if i == axis else 1) * strides[i]
        neighbours[axis, :, 0] = 0
        for v in range(1, count + 1):
            neighbours[axis, 0, v] = table[find(table, vertex_keys, mask, shift, vertex_keys[v] - step)]
            neighbours[axis, 1, v] = table[find(table, vertex_keys, mask, shift, vertex_keys[v] + step)]


@compiled(fastmath=True)
def splat(vertices: NDArray[np.int32], weights: Floats, values: Floats, lattice: Floats) -> None:
    """Add the pixels' values (N, L) onto the vertices, lattice (M + 1, L)."""
    lattice[:] = 0
    for p in range(vertices.shape[0]):
        for r in range(vertices.shape[1]):
            for label in range(values.shape[1]):
                lattice[vertices[p, r], label] += weights[p, r] * values[p, label]


@compiled(fastmath=True)
def blur(neighbours: NDArray[np.int32], lattice: Floats, other: Floats) -> Floats:
    """Blur with (1/2, 1, 1/2) along every axis; returns whichever of the two arrays holds the result."""
    other[0] = 0
    for axis in range(neighbours.shape[0]):
        before, after = neighbours[axis, 0], neighbours[axis, 1]
        for v in range(1, lattice.shape[0]):
            for label in range(lattice.shape[1]):
                sides = lattice[before[v], label] + lattice[after[v], label]
                other[v, label] = lattice[v, label] + np.float32(0.5) * sides
        lattice, other = other, lattice
    return lattice


@compiled(fastmath=True)
def slice_onto(
    vertices: NDArray[np.int32], weights: Floats, lattice: Floats, values: Floats, factor: np.float32
) -> None:
    """Add factor * the lattice's interpolated values to values (N, L)."""
    for p in range(vertices.shape[0]):
        for r in range(vertices.shape[1]):
            weight = weights[p, r] * factor
            for label in range(values.shape[1]):
                values[p, label] += weight * lattice[vertices[p, r], label]


def build(features: NDArray[np.float32], compat: float) -> Lattice:
    """Build the lattice of features (N, d), each divided by its standard deviation.

    The weights are multiplied by sqrt(compat / (K 1)), so that slice(blur(splat(q))) is compat D^-1/2 K D^-1/2 q.

    Raises:
        ValueError: the features span more of the lattice than 63-bit keys can number.
    """
    count, d = features.shape
    padded = np.zeros((count + -count % 4, d), np.float32)  # pydensecrf's last block of four ends with origins
    padded[:count] = features
    keys = np.empty((len(padded), d + 1), np.int64)
    weights = np.empty((len(padded), d + 1), np.float32)
    strides = key_strides(features.max(0))
    embed(padded, keys, weights, strides)
    size = 1 << int(np.ceil(np.log2(2 * keys.size)))
    table = np.zeros(size, np.int32)
    vertex_keys = np.empty(keys.size + 1, np.int64)
    vertices = np.empty((count, d + 1), np.int32)
    total = number(keys, table, vertices, vertex_keys)
    neighbours = np.empty((d + 1, 2, total + 1), np.int32)
    link(total, table, vertex_keys, strides, neighbours)
    weights = weights[:count]
    normalise(vertices, weights, neighbours, np.float32(compat))
    return Lattice(vertices, weights, neighbours)


def normalise(
    vertices: NDArray[np.int32], weights: NDArray[np.float32], neighbours: NDArray[np.int32], compat: np.float32
) -> None:
    """Multiply the weights of each pixel by sqrt(alpha compat / (K 1)), in place."""
    d = weights.shape[1] - 1
    alpha = np.float32(1 / (1 + 2.0**-d))
    ones = np.ones((len(weights), 1), np.float32)
    lattice = np.empty((neighbours.shape[2], 1), np.float32)
    splat(vertices, weights, ones, lattice)
    norm = np.zeros_like(ones)
    slice_onto(vertices, weights, blur(neighbours, lattice, np.empty_like(lattice)), norm, alpha)
    weights *= np.sqrt(alpha * compat / (norm + np.float32(1e-20)))


def key_strides(highest: NDArray[np.float32], bits: int = 62) -> NDArray[np.int64]:
    """Return strides that number the lattice's integer coordinates, neighbours included, without collision.

    Args:
        highest: (d,), the largest value of each feature; the smallest is 0.
        bits: what the keys may take.

    Raises:
        ValueError: they would take more.
    """
    d = len(highest)
    scaled = highest * np.sqrt(2 / 3) * (d + 1) / np.sqrt([(i + 1) * (i + 2) for i in range(d)])
    # Elevated coordinate j is the sum of the scaled features from j on, less j times feature j - 1 (reference.elevate).
    spans = [scaled.sum()] + [scaled[j:].sum() + j * scaled[j - 1] for j in range(1, d)]
    beyond = 4 * (d + 2)  # a simplex and its neighbours reach past their points
    strides = np.ones(d, np.int64)
    total = 1
    for j in range(d):
        strides[j] = total
        total *= int(spans[j]) + beyond
        if total >= 1 << bits:
            raise ValueError("crf: the standard deviations are too small for an image of this size")
    return strides
