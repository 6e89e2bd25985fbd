"""Small data sets on disk, made anew for each test."""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photo() -> Callable[[Path, tuple[int, int]], Path]:
    """Write a textured image of (H, W) to a path; its suffix says how."""

    def write(path: Path, size: tuple[int, int] = (40, 60)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(zlib.crc32(path.name.encode()))
        coarse = generator.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC).save(path)
        return path

    return write


@pytest.fixture
def voc_root(tmp_path: Path, photo: Callable[[Path, tuple[int, int]], Path]) -> Path:
    """Four images a, b, c (train) and d (val) of cat and dog in VOC layout, with masks, saliency and a CSV of tags."""
    root = tmp_path / "voc"
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\nc\n")
    (lists / "val.txt").write_text("d\n")
    (root / "image_labels.csv").write_text("id,cat,dog\na,1,0\nb,0,1\nc,1,1\nd,1,0\n")
    for folder in ("SegmentationClass", "Saliency"):
        (root / folder).mkdir()
    values = {"a": [0, 8], "b": [0, 12, 255], "c": [0, 8, 12], "d": [8]}
    for image_id, present in values.items():
        photo(root / "JPEGImages" / f"{image_id}.jpg", (40, 60))
        save_mask(root / "SegmentationClass" / f"{image_id}.png", present, (40, 60))
        Image.new("L", (60, 40), 128).save(root / "Saliency" / f"{image_id}.png")
    return root


@pytest.fixture
def mask_of() -> Callable[[Path, Sequence[int], tuple[int, int]], None]:
    """Write a palette mask of (H, W) whose columns go through the given values."""
    return save_mask


def save_mask(path: Path, values: Sequence[int], size: tuple[int, int]) -> None:
    """A palette PNG of (H, W): columns go through `values` from left to right."""
    columns = np.array(values, np.uint8)[np.arange(size[1]) * len(values) // size[1]]
    mask = Image.fromarray(np.broadcast_to(columns, size).copy())
    mask.putpalette([0, 0, 0] * 256)
    mask.save(path)
