"""The dense CRF against pydensecrf: scikit-image's photos at the sizes of VOC and COCO, unaries like those of CAMs.

Ten iterations, deviations 3 / 80 / 13, weights 3 / 10, unless a case says otherwise. "voc-3" runs four photos one after
the other; "voc-3-chelsea" is one of them. The peer has one thread: it has no more; for many images it has a pool of two
processes, which have their images already and write into shared memory.
"""

import atexit
import multiprocessing
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from multiprocessing.pool import Pool
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from skimage.transform import resize

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.harness import Case, RedError, main
from camshaft.kernels.crf import Parameters, crf, crf_many, peer, tensors

Image = NDArray[np.uint8]
Maps = NDArray[np.float32]
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
SIZES = {"voc": (375, 500), "coco": (480, 640)}
MANY, MANY_LABELS = 32, 3


@lru_cache
def photo(name: str, size: tuple[int, int]) -> Image:
    shrunk = resize(getattr(skimage.data, name)(), size, order=1, anti_aliasing=True, preserve_range=True)
    return np.ascontiguousarray(np.clip(np.rint(shrunk), 0, 255), np.uint8)


@lru_cache
def maps_of(labels: int, size: tuple[int, int], seed: int) -> Maps:
    """Smooth bumps, and AffinityNet's background score (1 - max)^4; float32 (labels, H, W), sums to one."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    maps = np.zeros((labels, *size))
    for c in range(1, labels):
        for _ in range(rng.integers(1, 4)):
            centre, width = rng.uniform(0.15, 0.85, 2) * size, rng.uniform(0.08, 0.22) * min(size)
            maps[c] += rng.uniform(0.6, 1) * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * width**2))
        maps[c] /= maps[c].max() + 1e-5
    maps[0] = (1 - maps[1:].max(0)) ** 4
    maps = np.maximum(maps, 1e-5)
    return np.asarray(maps / maps.sum(0), np.float32)


def compare(peers: str, results: Mapping[str, list[Maps]]) -> str:
    """Demand what pydensecrf's twin promises: labels agree on 99.99 % of the pixels, and Q to 5e-4."""
    lines = []
    for name, qs in results.items():
        if name == peers:
            continue
        pairs = list(zip(qs, results[peers], strict=True))
        agree = float(np.mean([(q.argmax(0) == theirs.argmax(0)).mean() for q, theirs in pairs]))
        worst = max(float(np.abs(q - theirs).max()) for q, theirs in pairs)
        if not (agree >= 0.9999 and worst <= 5e-4):
            raise RedError(f"{name}: labels agree on {agree:.6f}, largest difference {worst:.1e}")
        lines.append(f"{name}: labels agree on {agree:.6f}, |Δq| ≤ {worst:.1e}")
    return "; ".join(lines)


def photo_case(name: str, size: str, labels: int, photos: tuple[str, ...] = PHOTOS, srgb: float = 13.0) -> Case:
    pairs = [(photo(p, SIZES[size]), maps_of(labels, SIZES[size], i)) for i, p in enumerate(photos)]
    parameters = Parameters(bilateral_srgb=srgb)

    def ours(threads: int) -> list[Maps]:
        return [crf(image, maps, bilateral_srgb=srgb, threads=threads) for image, maps in pairs]

    contenders: dict[str, Callable[[], list[Maps]]] = {
        "pydensecrf": lambda: [peer.mean_field(image, maps, parameters) for image, maps in pairs],
        "camshaft, one thread": partial(ours, 1),
        "camshaft, two threads": partial(ours, 2),
    }
    return Case("crf", name, contenders, "pydensecrf", partial(compare, "pydensecrf"), rounds=7)


def many_item(i: int) -> tuple[Image, Maps]:
    return photo(PHOTOS[i % 4], SIZES["voc"]), maps_of(MANY_LABELS, SIZES["voc"], i)


class Worker:
    """One process of the peer's pool."""

    items: list[tuple[Image, Maps]]
    results: Maps
    memory: SharedMemory

    @classmethod
    def start(cls, memory: str) -> None:
        cls.items = [many_item(i) for i in range(MANY)]
        cls.memory = SharedMemory(memory)
        cls.results = np.ndarray((MANY, MANY_LABELS, *SIZES["voc"]), np.float32, cls.memory.buf)

    @classmethod
    def run(cls, i: int) -> None:
        cls.results[i] = peer.mean_field(*cls.items[i], Parameters())


def many_case(name: str) -> Case:
    items = [many_item(i) for i in range(MANY)]
    memory = SharedMemory(create=True, size=MANY * items[0][1].nbytes)
    pool: Pool = multiprocessing.get_context("spawn").Pool(2, Worker.start, (memory.name,))
    results = np.ndarray((MANY, *items[0][1].shape), np.float32, memory.buf)
    atexit.register(memory.unlink)
    atexit.register(pool.terminate)

    def theirs() -> list[Maps]:
        pool.map(Worker.run, range(MANY), chunksize=1)
        return list(results)

    contenders: dict[str, Callable[[], list[Maps]]] = {
        "pydensecrf, two processes": theirs,
        "camshaft, two threads": lambda: list(crf_many(items, threads=2)),
    }
    check = partial(compare, "pydensecrf, two processes")
    return Case("crf", name, contenders, "pydensecrf, two processes", check, rounds=4)


def gpu_case(batch: int, labels: int) -> Case:
    """A batch on the GPU, images and probabilities there already, against the compiled twin on all cores."""
    items = [(photo(PHOTOS[i % 4], SIZES["voc"]), maps_of(labels, SIZES["voc"], i)) for i in range(batch)]
    images, maps = (torch.from_numpy(np.stack(arrays)).cuda() for arrays in zip(*items, strict=True))
    contenders: dict[str, Callable[[], object]] = {
        "numba, all cores": lambda: list(crf_many(items)),
        "torch, GPU": lambda: tensors.crf(images, maps, Parameters()),
    }

    def check(results: Mapping[str, object]) -> str:
        on_gpu = results["torch, GPU"]
        assert isinstance(on_gpu, torch.Tensor)
        ours = results["numba, all cores"]
        return compare("numba, all cores", {"numba, all cores": ours, "torch, GPU": list(on_gpu.cpu().numpy())})  # type: ignore[dict-item]

    name = f"GPU, {batch} photos, 375×500, {labels} labels"
    return Case("crf", name, contenders, "numba, all cores", check, rounds=5, synchronise=torch.cuda.synchronize)


CASES: dict[str, Callable[[], Case]] = {
    **{f"voc-{n}": partial(photo_case, f"four photos, 375×500, {n} labels", "voc", n) for n in (2, 3, 4, 21)},
    **{
        f"voc-{n}-{p}": partial(photo_case, f"{p}, 375×500, {n} labels", "voc", n, (p,))
        for n in (2, 3, 4)
        for p in PHOTOS
    },
    **{f"coco-{n}": partial(photo_case, f"four photos, 480×640, {n} labels", "coco", n) for n in (2, 3, 4)},
    **{
        f"fine-{n}": partial(photo_case, f"four photos, 375×500, {n} labels, srgb 5", "voc", n, PHOTOS, 5.0)
        for n in (3, 21)
    },
    "many": partial(many_case, f"{MANY} photos, 375×500, {MANY_LABELS} labels"),
}
GPU_CASES: dict[str, Callable[[], Case]] = {f"gpu-{n}": partial(gpu_case, 16, n) for n in (2, 4, 21)}

if __name__ == "__main__":
    sys.exit(main(__doc__ or "", CASES | (GPU_CASES if torch.cuda.is_available() else {})))
