"""AffinityNet's random walk and its affinities, against the authors' way: dense matrices in torch.

The dense walk starts from its matrix A^∘β, ready; ours from the affinities as planes. Sizes are those of a VOC and a
COCO image at stride 8; the features are random functions of a photo's colours at several blurs, 448 channels, ELU.
"""

import sys
import threading
import tracemalloc
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from skimage.filters import gaussian
from skimage.transform import resize
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.harness import Case, RedError, main
from camshaft.kernels.walk import affinities, half_disc, reference, walk

Array = NDArray[np.float32]
VOC, COCO, IRN = (47, 63), (60, 80), (94, 125)
CHANNELS, MAPS, BETA, STEPS, RADIUS = 448, 3, 8, 256, 5


@lru_cache
def features(size: tuple[int, int], channels: int = CHANNELS, gain: float = 1.5) -> Array:
    """Stand-ins for an embedding: smooth, nonlinear, sharp at the photo's edges; float32 (channels, h, w)."""
    photo = resize(skimage.data.chelsea() / 255.0, size, anti_aliasing=True)
    blurred = np.concatenate([photo, *(gaussian(photo, sigma, channel_axis=-1) for sigma in (1, 2, 4))], axis=-1)
    rng = np.random.default_rng(channels)
    mixed = (blurred - blurred.mean((0, 1))) @ rng.standard_normal((blurred.shape[-1], channels))
    mixed = gain * mixed + rng.uniform(-1, 1, channels)
    activated = np.where(mixed > 0, mixed, np.expm1(np.minimum(mixed, 0)))
    return np.ascontiguousarray(activated.transpose(2, 0, 1), np.float32)


def maps_of(size: tuple[int, int]) -> Array:
    values = np.abs(features(size, MAPS))
    return np.ascontiguousarray(values / values.max(axis=(1, 2), keepdims=True), np.float32)


def dense_weights(planes: Array) -> Tensor:
    """A^∘β as a dense float32 tensor."""
    _, h, w = planes.shape
    matrix = np.eye(h * w, dtype=np.float32)
    index = np.arange(h * w).reshape(h, w)
    for plane, (dy, dx) in zip(planes, half_disc(RADIUS).tolist(), strict=True):
        y, x = np.nonzero(plane)
        here, there = index[y, x], index[y + dy, x + dx]
        matrix[here, there] = matrix[there, here] = plane[y, x] ** BETA
    return torch.from_numpy(matrix)


def dense_walk(weights: Tensor, maps: Tensor) -> Array:
    """T = A^∘β over its column sums, squared eight times; the maps times T."""
    transition = weights / weights.sum(0, keepdim=True)
    for _ in range(STEPS.bit_length() - 1):
        transition = transition @ transition
    return (maps.flatten(1) @ transition).reshape(maps.shape).numpy()


def dense_walk_by_vectors(weights: Tensor, maps: Tensor) -> Array:
    transition = weights / weights.sum(0, keepdim=True)
    rows = maps.flatten(1)
    for _ in range(STEPS):
        rows = rows @ transition
    return rows.reshape(maps.shape).numpy()


def dense_affinities(values: Tensor) -> Tensor:
    """The authors' way: gather both ends of all pairs, exp of the mean distance, sparse matrix to dense, power β."""
    channels, h, w = values.shape
    reach, flat = RADIUS - 1, values.reshape(channels, -1)
    index = torch.arange(h * w).reshape(h, w)
    here = index[: h - reach, reach : w - reach].flatten()
    offsets = half_disc(RADIUS).tolist()
    moved = [index[dy : dy + h - reach, reach + dx : w - reach + dx] for dy, dx in offsets]
    there = torch.stack([places.flatten() for places in moved])
    ends = flat.index_select(1, there.flatten()).reshape(channels, len(offsets), -1)
    closeness = torch.exp(-(ends - flat.index_select(1, here)[:, None]).abs().mean(0)).flatten()
    first, second, own = here.repeat(len(offsets)), there.flatten(), index.flatten()
    places = torch.cat([torch.stack(p) for p in ((first, second), (own, own), (second, first))], dim=1)
    entries = torch.cat([closeness, torch.ones(h * w), closeness])
    return torch.sparse_coo_tensor(places, entries, (h * w, h * w), check_invariants=False).to_dense() ** BETA


def close_to(expected: Array, limit: float, results: Mapping[str, Array]) -> str:
    errors = {name: float(np.abs(result - expected).max()) for name, result in results.items()}
    for name, error in errors.items():
        if not error < limit:
            raise RedError(f"{name} is {error:.2g} from the definition, limit {limit:.0e}")
    return "largest error against float64: " + ", ".join(f"{name} {error:.1e}" for name, error in errors.items())


def peak_megabytes(call: Callable[[], object]) -> str:
    """The most that the call holds at once, in a thread of its own, where no memory is kept from former calls."""
    call()
    thread = threading.Thread(target=call)
    tracemalloc.start()
    thread.start()
    thread.join()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return f"{peak / 1e6:.2f} MB"


def walk_case(name: str, size: tuple[int, int], rounds: int) -> Case:
    planes, maps = affinities(features(size), RADIUS), maps_of(size)
    weights, dense_maps = dense_weights(planes), torch.from_numpy(maps)
    chebyshev = partial(walk, planes, maps, beta=BETA, steps=STEPS)
    stepwise = partial(chebyshev, method="steps")
    expected = reference.walk(planes, maps, RADIUS, BETA, STEPS)
    contenders: dict[str, Callable[[], Array]] = {
        "dense squaring, torch": partial(dense_walk, weights, dense_maps),
        "dense vectors, torch": partial(dense_walk_by_vectors, weights, dense_maps),
        "stencil, steps": stepwise,
        "stencil, Chebyshev": chebyshev,
        "stencil, Chebyshev, two threads": partial(chebyshev, threads=2),
    }
    notes = {
        "dense squaring, torch": f"{2 * weights.numel() * 4 / 1e6:.0f} MB (two matrices)",
        "stencil, steps": peak_megabytes(stepwise),
        "stencil, Chebyshev": peak_megabytes(chebyshev),
    }
    check = partial(close_to, expected.astype(np.float32), 1e-4)
    return Case("walk", name, contenders, "dense squaring, torch", check, notes, rounds)


def affinity_case(name: str, size: tuple[int, int]) -> Case:
    values = features(size)
    planes = affinities(values, RADIUS, implementation="reference")
    tensor = torch.from_numpy(values)
    contenders: dict[str, Callable[[], Array | Tensor]] = {
        "psa's way, torch": partial(dense_affinities, tensor),
        "stencil": partial(affinities, values, RADIUS),
    }
    weights = dense_weights(planes)

    def check(results: Mapping[str, Array | Tensor]) -> str:
        peer = float((torch.as_tensor(results["psa's way, torch"]) - weights).abs().max())
        own = float(np.abs(np.asarray(results["stencil"]) - planes).max())
        if max(peer, own) > 1e-5:
            raise RedError(f"errors {peer:.1e} and {own:.1e}")
        return f"largest error against float64: psa's way {peer:.1e}, stencil {own:.1e}"

    return Case("affinities", name, contenders, "psa's way, torch", check)


def both_case(name: str, size: tuple[int, int]) -> Case:
    values, maps = features(size), maps_of(size)
    tensor, dense_maps = torch.from_numpy(values), torch.from_numpy(maps)
    contenders: dict[str, Callable[[], Array]] = {
        "psa's way, torch": lambda: dense_walk(dense_affinities(tensor), dense_maps),
        "stencil": lambda: walk(affinities(values, RADIUS), maps, beta=BETA, steps=STEPS),
    }
    planes = reference.affinities(values, RADIUS, "psa").astype(np.float32)
    expected = reference.walk(planes, maps, RADIUS, BETA, STEPS)
    check = partial(close_to, expected.astype(np.float32), 1e-4)
    return Case("affinities + walk", name, contenders, "psa's way, torch", check, rounds=5)


def irn_case(name: str, radius: int) -> Case:
    """IRN's grid; a dense matrix of it takes 552 MB, so that the steps are the peer and, in float64, the definition."""
    planes, maps = affinities(features(IRN, 32), radius, "none"), maps_of(IRN)
    chebyshev = partial(walk, planes, maps, radius=radius, beta=10, steps=STEPS)
    contenders = {"stencil, steps": partial(chebyshev, method="steps"), "stencil, Chebyshev": chebyshev}
    notes = {key: peak_megabytes(call) for key, call in contenders.items()}
    check = partial(close_to, contenders["stencil, steps"](), 1e-4)
    return Case("walk", name, contenders, "stencil, steps", check, notes)


CASES: dict[str, Callable[[], Case]] = {
    "walk-voc": partial(walk_case, "47×63, radius 5, 256 steps, 3 maps", VOC, 5),
    "walk-coco": partial(walk_case, "60×80, radius 5, 256 steps, 3 maps", COCO, 3),
    "affinities-voc": partial(affinity_case, "47×63, 448 channels, radius 5", VOC),
    "both-voc": partial(both_case, "47×63, 448 channels, 3 maps", VOC),
    "irn-5": partial(irn_case, "94×125, radius 5, 256 steps, 3 maps", 5),
    "irn-10": partial(irn_case, "94×125, radius 10, 256 steps, 3 maps", 10),
}

if __name__ == "__main__":
    torch.set_flush_denormal(True)
    sys.exit(main(__doc__ or "", CASES))
