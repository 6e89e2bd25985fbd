"""The loaders, Pillow's and DALI's on the CPU, against one as research scripts write it, for throughput.py."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import Case, RedError
from benchmarks.throughput_ranks import cores_here
from camshaft.engine.data import Augmentation, ColourJitter, Loader, Normalization, Resize, open_data
from camshaft.engine.data.augment import Adjustment, Drawn, draw
from camshaft.engine.data.dali import DaliLoader
from camshaft.engine.data.folder import FolderSettings
from camshaft.engine.data.order import Order

OC_CSE = Augmentation(
    resize=Resize(long_side=(256, 448)),
    flip=0.5,
    jitter=ColourJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
    crop=384,
)
NORMALIZATION = Normalization()
PHOTOS, REPEATED, BATCH = 32, 2, 8
RESEARCH = "a DataLoader as research scripts write it"
MOST_DIFFERENT = 0.02
"""Mean difference of pixels, in standard deviations: the scripts' hue has 256 values, and every change is rounded."""


def photos(folder: Path) -> None:
    """A data set of JPEGs with the sizes of PASCAL VOC's."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    lines = ["id,thing"]
    for number in range(PHOTOS):
        height, width = [(375, 500), (500, 375), (333, 500)][number % 3]
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3)).astype(np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float32)
        grain = rng.normal(0, 6, (height, width, 1)).astype(np.float32)
        photo = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        Image.fromarray(photo).save(folder / "images" / f"{number:03}.jpg", quality=90)
        lines.append(f"{number:03},1")
    (folder / "tags.csv").write_text("\n".join(lines) + "\n")


def loader_case(folder: Path) -> Case:
    """Whole epochs: batches that a loader prepared ahead would take the time of the other's turn."""
    photos(folder)
    data = open_data(FolderSettings.model_validate({"kind": "folder", "root": folder, "val_fraction": 0}), Path())
    ids, tags, cores = data.ids("train"), data.tags("train"), len(cores_here())
    order = Order(tuple(range(len(ids))) * REPEATED, BATCH, seed=0)

    def epochs(kind: type[Loader]) -> Callable[[], list[Tensor]]:
        loader = kind(
            data,
            ids,
            tags,
            augmentation=OC_CSE,
            normalization=NORMALIZATION,
            batch_size=BATCH,
            seed=order.seed,
            indices=order.indices,
            workers=cores,
            channels_last=True,
        )
        return lambda: [batch.image for batch in loader.epoch(0)]

    epoch = order.epoch(0)
    samples = [sample for number in range(len(order)) for sample in epoch.batch(number)]
    drawn = [draw(OC_CSE, epoch.generator(sample), data.size(ids[sample.index])) for sample in samples]
    files = [folder / "images" / f"{ids[sample.index]}.jpg" for sample in samples]
    scripted = DataLoader(ScriptedPhotos(files, drawn), batch_size=BATCH, num_workers=cores, persistent_workers=True)
    contenders: dict[str, Callable[[], list[Tensor]]] = {
        RESEARCH: lambda: list(scripted),
        "camshaft, Pillow": epochs(Loader),
        "camshaft, DALI on the CPU": epochs(DaliLoader),
    }
    images = f"{len(samples)} photos at {OC_CSE.crop} px in batches of {BATCH}, {cores} threads"
    return Case("loader", images, contenders, RESEARCH, alike, rounds=6)


def alike(results: Mapping[str, list[Tensor]]) -> str:
    """Say by how much any two contenders' pixels differ; RedError where they are other samples."""
    pairs = [pair for two in combinations(results.values(), 2) for pair in zip(*two, strict=True)]
    worst = max(float((one - other).abs().mean()) for one, other in pairs)
    if worst > MOST_DIFFERENT:
        raise RedError(f"batches differ: {worst:.4f} standard deviations in the mean")
    return f"the same samples; pixels differ by {worst:.4f} standard deviations in the mean"


class ScriptedPhotos(Dataset[Tensor]):
    """A data set as research scripts have it: Pillow and NumPy, one operation after the other, on 8-bit photos."""

    def __init__(self, files: Sequence[Path], drawn: Sequence[Drawn]) -> None:
        self._samples = list(zip(files, drawn, strict=True))

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> Tensor:
        file, drawn = self._samples[number]
        with Image.open(file) as opened:
            photo = opened.convert("RGB")
        height, width = drawn.resized
        photo = photo.resize((width, height), Image.Resampling.BICUBIC)
        for kind, amount in drawn.adjustments:
            photo = adjusted(photo, kind, amount)
        if drawn.flip:
            photo = ImageOps.mirror(photo)
        pixels = (np.asarray(photo) / 255.0 - NORMALIZATION.mean) / NORMALIZATION.std
        top, left, side, _ = drawn.window
        sample = np.zeros((side, side, 3), np.float32)
        rows = slice(max(0, top), min(height, top + side))
        columns = slice(max(0, left), min(width, left + side))
        sample[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = pixels[rows, columns]
        return torch.from_numpy(np.ascontiguousarray(sample.transpose(2, 0, 1)))


def adjusted(photo: Image.Image, kind: Adjustment, amount: float) -> Image.Image:
    """A change of colour as torchvision makes it of Pillow's images; the hue in 256 steps."""
    if kind == "hue":
        hue, saturation, value = photo.convert("HSV").split()
        turned = np.asarray(hue) + np.uint8(int(amount * 255) % 256)
        return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")
    enhancer = {
        "brightness": ImageEnhance.Brightness,
        "contrast": ImageEnhance.Contrast,
        "saturation": ImageEnhance.Color,
    }[kind]
    return enhancer(photo).enhance(amount)
