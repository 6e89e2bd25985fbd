"""The map store against its peers: psa's way (a float32 dictionary of full-size maps for each image), and zarr-python's
reading of one image at a time from the same files. Bytes and label agreement stand in the notes."""

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
import zarr
from PIL import Image

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.harness import Case, RedError, main
from camshaft.engine.stores import Encoding, Layout, MapStore, MapStoreWriter, finalize, plan

SIZES = {
    "voc": [(375, 500), (500, 375), (333, 500), (500, 333), (375, 500), (281, 500)],
    "coco": [(480, 640), (640, 480), (427, 640), (640, 427), (480, 640), (425, 640)],
}
CLASSES = {"voc": 1.5, "coco": 2.9}
"""Classes an image in the mean."""
STRIDE = 8
DIFFERENT = 96
BACKGROUND = (0.15, 0.2, 0.25, 0.3, 0.35)
"""Scores of the background at which labels are compared."""
LEAST_AGREEMENT = 0.9995
LEAST_RATIO = 200
ENCODINGS: tuple[Encoding, ...] = ("uint8", "uint10", "uint12", "float16")


@dataclass(frozen=True)
class Seeds:
    """Maps like a trained classifier's, at stride resolution."""

    classes: list[list[int]]
    maps: list[np.ndarray]
    sizes: list[tuple[int, int]]

    def layout(self, count: int, encoding: Encoding, block_images: int) -> Layout:
        chosen = [index % len(self.maps) for index in range(count)]
        return plan(
            [f"image_{index:06d}" for index in range(count)],
            [self.classes[index] for index in chosen],
            np.array([self.maps[index].shape[1:] for index in chosen]),
            np.array([self.sizes[index] for index in chosen]),
            classes=[f"class {number}" for number in range(20)],
            encoding=encoding,
            block_images=block_images,
        )

    def block(self, layout: Layout, block: int) -> list[np.ndarray]:
        return [self.maps[index % len(self.maps)] for index in layout.block(block)]


def seeds_of(name: str) -> Seeds:
    """A few blobs for each class, uneven as activations are, cut at zero and divided by the maximum."""
    rng = np.random.default_rng(0)
    sizes = [SIZES[name][index % len(SIZES[name])] for index in range(DIFFERENT)]
    classes, maps = [], []
    for height, width in sizes:
        h, w = -(-height // STRIDE), -(-width // STRIDE)
        count = 1 + min(5, int(rng.poisson(CLASSES[name] - 1)))
        classes.append(sorted(rng.choice(20, count, replace=False).tolist()))
        maps.append(np.stack([activation(rng, h, w) for _ in range(count)]))
    return Seeds(classes, maps, sizes)


def activation(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    coarse = Image.fromarray(rng.standard_normal((h // 4 + 1, w // 4 + 1), np.float32))
    uneven = np.asarray(coarse.resize((w, h), Image.Resampling.BICUBIC))
    blobs = np.zeros((h, w), np.float32)
    for _ in range(rng.integers(1, 4)):
        (cy, cx), radius = rng.uniform(0.1, 0.9, 2) * (h, w), rng.uniform(0.08, 0.25) * min(h, w)
        blobs += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * radius**2))
    values = np.maximum(blobs * (1 + 0.3 * uneven) + 0.08 * uneven, 0)
    return np.asarray(values / values.max(), np.float32)


def full_size(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    upsampled = F.interpolate(torch.from_numpy(maps)[None], size=size, mode="bilinear", align_corners=False)
    return upsampled[0].numpy()


def save_dictionaries(folder: Path, seeds: Seeds, indices: Sequence[int]) -> None:
    for index in indices:
        maps = dict(zip(seeds.classes[index], full_size(seeds.maps[index], seeds.sizes[index]), strict=True))
        np.save(folder / f"{index}.npy", np.array(maps, dtype=object))


def bytes_below(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def label_agreement(store: MapStore, seeds: Seeds) -> float:
    """The share of pixels with the same label, over all thresholds."""
    shares = []
    for index in range(DIFFERENT):
        pairs = [full_size(maps, seeds.sizes[index]) for maps in (seeds.maps[index], store.read(index).values)]
        for background in BACKGROUND:
            true, stored = (np.where(maps.max(0) > background, maps.argmax(0) + 1, 0) for maps in pairs)
            shares.append((true == stored).mean())
    return float(np.mean(shares))


def write_store(path: Path, seeds: Seeds, layout: Layout) -> MapStore:
    writer = MapStoreWriter.create(path, layout)
    for block in range(layout.block_count):
        writer.write_block(block, seeds.block(layout, block))
    finalize(path, {})
    return MapStore.open(path)


def bytes_note(store: MapStore, seeds: Seeds, dictionary_bytes: float) -> tuple[str, float, float]:
    size = bytes_below(store.path) / len(store)
    agreement, ratio = label_agreement(store, seeds), dictionary_bytes / size
    return f"{size:.0f} B an image, {ratio:.0f}× fewer, labels agree {agreement:.5f}", agreement, ratio


def write_case(name: str, folder: Path) -> Case:
    """A block of images written by one rank; the dictionaries' upsampling belongs to their way."""
    seeds = seeds_of(name)
    folder = Path(tempfile.mkdtemp(dir=folder))
    (folder / "dictionaries").mkdir()
    save_dictionaries(folder / "dictionaries", seeds, range(DIFFERENT))
    dictionary_bytes = bytes_below(folder / "dictionaries") / DIFFERENT
    contenders: dict[str, Callable[[], object]] = {
        "float32 dictionaries": partial(save_dictionaries, folder / "dictionaries", seeds, range(DIFFERENT))
    }
    notes = {"float32 dictionaries": f"{dictionary_bytes:.0f} B an image"}
    for encoding in ENCODINGS:
        large = write_store(folder / f"large-{encoding}", seeds, seeds.layout(20 * DIFFERENT, encoding, 256))
        note, agreement, ratio = bytes_note(large, seeds, dictionary_bytes)
        if encoding == "uint10" and (agreement < LEAST_AGREEMENT or ratio < LEAST_RATIO):
            raise RedError(note)
        writer = MapStoreWriter.create(folder / encoding, seeds.layout(DIFFERENT, encoding, DIFFERENT))
        contenders[f"map store {encoding}"] = partial(writer.write_block, 0, seeds.maps)
        notes[f"map store {encoding}"] = note

    def check(_: Mapping[str, object]) -> str:
        for encoding in ENCODINGS:
            finalize(folder / encoding, {})
            store = MapStore.open(folder / encoding)
            error = max(np.abs(maps.values - true).max() for maps, true in zip(store, seeds.maps, strict=True))
            if error > store.layout.codec.error_bound:
                raise RedError(f"{encoding}: values are {error} off")
        return "all values within the encodings' error bounds"

    return Case("store, write", f"{name}, {DIFFERENT} images", contenders, "float32 dictionaries", check, notes, 7)


def read_case(name: str, folder: Path) -> Case:
    """32 images at random out of 6,000, warm; each contender gives the values as float32."""
    seeds = seeds_of(name)
    path = Path(tempfile.mkdtemp(dir=folder)) / "store"
    layout = seeds.layout(6000, "uint10", 256)
    store = write_store(path, seeds, layout)
    values = zarr.open_array(path / "values", mode="r")
    order = np.random.default_rng(1).permutation(len(store))[:32].tolist()

    def by_zarr() -> list[np.ndarray]:
        found = []
        for index in order:
            start, shape = int(layout.images[index, 0]), layout.shape(index)
            codes = np.asarray(values[start : start + int(np.prod(shape))])
            found.append((codes / np.float32(layout.codec.largest)).reshape(shape))
        return found

    def by_store() -> list[np.ndarray]:
        return [store.read(index).values for index in order]

    def check(results: Mapping[str, list[np.ndarray]]) -> str:
        if not all(np.array_equal(*pair) for pair in zip(*results.values(), strict=True)):
            raise RedError("the values differ")
        return "all values equal"

    contenders = {"zarr-python": by_zarr, "map store": by_store}
    return Case("store, random read", f"{name}, 32 images", contenders, "zarr-python", check)


def scan_case(name: str, folder: Path) -> Case:
    """All 6,000 images in order: zarr-python reads blocks whole, the best that it can do."""
    seeds = seeds_of(name)
    path = Path(tempfile.mkdtemp(dir=folder)) / "store"
    layout = seeds.layout(6000, "uint10", 256)
    store = write_store(path, seeds, layout)
    values = zarr.open_array(path / "values", mode="r")

    def by_zarr() -> float:
        scale, size = np.float32(layout.codec.largest), layout.shard_values
        blocks = range(layout.block_count)
        return float(
            sum((np.asarray(values[block * size : (block + 1) * size]) / scale).sum(dtype=float) for block in blocks)
        )

    def by_store() -> float:
        return float(sum(maps.values.sum(dtype=float) for maps in store))

    def check(results: Mapping[str, float]) -> str:
        if not np.allclose(list(results.values()), results["map store"], rtol=1e-9):
            raise RedError(f"the sums differ: {results}")
        return "sums equal"

    contenders = {"zarr-python": by_zarr, "map store": by_store}
    return Case("store, all in order", f"{name}, 6000 images", contenders, "zarr-python", check, rounds=5)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="store-benchmark-") as scratch:
        makers = {"write": write_case, "read": read_case, "scan": scan_case}
        cases = {
            f"{kind}-{name}": partial(make, name, Path(scratch)) for kind, make in makers.items() for name in SIZES
        }
        sys.exit(main(__doc__ or "", cases))
