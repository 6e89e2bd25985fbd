"""A context in which a stage runs alone, on generated scenes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from camshaft.engine.data import DataSet, inspect, open_data
from camshaft.engine.data.folder import FolderSettings
from camshaft.engine.data.scenes import ScenesSettings
from camshaft.engine.models import Classifier, ClassifierSettings, build_classifier, save_network
from camshaft.engine.runtime.console import Console
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.stop import StopFlag
from camshaft.engine.stages.networks import FILE
from camshaft.engine.stages.stage import Product, StageContext, StageOutput
from camshaft.engine.stores import MapStoreWriter, MaskFolder, finalize, plan

MakeContext = Callable[..., StageContext]


@pytest.fixture(scope="session")
def scenes() -> DataSet:
    """Six small scenes for training, four for validation."""
    return open_data(ScenesSettings(kind="scenes", train=6, val=4, height=64, width=80, seed=11), Path())


@pytest.fixture
def untagged(tmp_path: Path, scenes: DataSet) -> DataSet:
    """The scenes as files of a user's own, with a table in which no image has a tag."""
    root = tmp_path / "own"
    (root / "images").mkdir(parents=True)
    rows = [",".join(["id", *scenes.classes])]
    for split in ("train", "val"):
        for image_id in scenes.ids(split):
            Image.fromarray(scenes.image(image_id)).save(root / "images" / f"{image_id}.png")
            rows.append(",".join([image_id, *("0" for _ in scenes.classes)]))
    (root / "tags.csv").write_text("\n".join(rows) + "\n")
    (root / "val.txt").write_text("\n".join(scenes.ids("val")) + "\n")
    return open_data(FolderSettings(kind="folder", root=root, val_list="val.txt"), Path())


@pytest.fixture
def make_context(tmp_path: Path, scenes: DataSet) -> MakeContext:
    """Make a stage's context; inputs are (product, folder, record) by id."""

    def make(
        inputs: Mapping[str, tuple[Product, Path, Mapping[str, Any]]] | None = None, *, data: DataSet = scenes
    ) -> StageContext:
        folder = tmp_path / "stage"
        folder.mkdir(exist_ok=True)
        return StageContext(
            folder=folder,
            base=tmp_path,
            data=data,
            inspection=inspect(data, ["train", "val"]),
            inputs={
                name: StageOutput(name, path, {"produces": str(product), **record})
                for name, (product, path, record) in (inputs or {}).items()
            },
            seed=(0, "stage"),
            arithmetic="fp32",
            device=torch.device("cpu"),
            threads=1,
            ranks=Ranks(),
            console=Console(enabled=False),
            stop=StopFlag(),
        )

    return make


@pytest.fixture
def save_classifier() -> Callable[..., Classifier]:
    """Save a classifier with random weights as a stage leaves it in its folder, and return it."""

    def save(folder: Path, classes: tuple[str, ...], **backbone: Any) -> Classifier:
        torch.manual_seed(0)
        backbone = backbone or {"name": "efficientnet_lite0", "output_stride": 16}
        network = build_classifier(ClassifierSettings.model_validate({"backbone": backbone}), classes, folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_network(folder / FILE, network)
        return network

    return save


@pytest.fixture
def write_maps(scenes: DataSet) -> Callable[..., Path]:
    """Write a store of random smooth maps of a split, at stride 8, and return its path."""

    def write(
        path: Path,
        split: str,
        *,
        aligned: bool = True,
        data: DataSet = scenes,
        classes: Sequence[str] | None = None,
        tags: NDArray[np.uint8] | None = None,
    ) -> Path:
        """`data`: whose images; `classes` and `tags`: other ones than these data's."""
        sizes = np.array([data.size(image_id) for image_id in data.ids(split)])
        grid = -(-(sizes - 1) // 8) + 1 if aligned else -(-sizes // 8)
        present = [np.flatnonzero(row).tolist() for row in (data.tags(split) if tags is None else tags)]
        layout = plan(data.ids(split), present, grid, sizes, classes=classes or data.classes)
        writer = MapStoreWriter.create(path, layout)
        generator = np.random.default_rng(0)
        for block in writer.blocks_missing():
            shapes = [layout.shape(index) for index in layout.block(block)]
            writer.write_block(block, [generator.random(shape, np.float32) for shape in shapes])
        finalize(path, {"align_corners": aligned})
        return path

    return write


@pytest.fixture
def write_masks(scenes: DataSet) -> Callable[..., Path]:
    """Write a folder of masks of a split, all of one class, and return its path."""

    def write(
        path: Path, split: str, *, data: DataSet = scenes, label: int = 1, file_values: Sequence[int] | None = None
    ) -> Path:
        """`data`: whose images; `file_values`: other ones than these data's."""
        masks = MaskFolder.create(path, data.palette, file_values or data.file_values)
        for image_id in data.ids(split):
            masks.write(image_id, np.full(data.size(image_id), label, np.uint8))
        masks.finalize(data.ids(split), {})
        return path

    return write
