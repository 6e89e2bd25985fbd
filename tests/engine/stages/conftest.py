"""A context in which a stage runs alone, on generated scenes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from camshaft.engine.data import DataSet, inspect, open_data
from camshaft.engine.data.scenes import ScenesSettings
from camshaft.engine.runtime.console import Console
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.stop import StopFlag
from camshaft.engine.stages.stage import Product, StageContext, StageOutput
from camshaft.engine.stores import MapStoreWriter, finalize, plan

MakeContext = Callable[..., StageContext]


@pytest.fixture(scope="session")
def scenes() -> DataSet:
    """Six small scenes for training, four for validation."""
    return open_data(ScenesSettings(kind="scenes", train=6, val=4, height=64, width=80, seed=11), Path())


@pytest.fixture
def make_context(tmp_path: Path, scenes: DataSet) -> MakeContext:
    """Make a stage's context; inputs are (product, folder, record) by id."""

    def make(inputs: Mapping[str, tuple[Product, Path, Mapping[str, Any]]] | None = None) -> StageContext:
        folder = tmp_path / "stage"
        folder.mkdir(exist_ok=True)
        return StageContext(
            folder=folder,
            base=tmp_path,
            data=scenes,
            inspection=inspect(scenes, ["train", "val"]),
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
def write_maps(scenes: DataSet) -> Callable[..., Path]:
    """Write a store of random smooth maps of a split, at stride 8, and return its path."""

    def write(path: Path, split: str, *, aligned: bool = True) -> Path:
        sizes = np.array([scenes.size(image_id) for image_id in scenes.ids(split)])
        grid = -(-(sizes - 1) // 8) + 1 if aligned else -(-sizes // 8)
        classes = [np.flatnonzero(row).tolist() for row in scenes.tags(split)]
        layout = plan(scenes.ids(split), classes, grid, sizes, classes=scenes.classes)
        writer = MapStoreWriter.create(path, layout)
        generator = np.random.default_rng(0)
        for block in writer.blocks_missing():
            shapes = [layout.shape(index) for index in layout.block(block)]
            writer.write_block(block, [generator.random(shape, np.float32) for shape in shapes])
        finalize(path, {"align_corners": aligned})
        return path

    return write
