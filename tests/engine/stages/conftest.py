"""A context in which a stage runs alone, on generated scenes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from camshaft.engine.data import DataSet, inspect, open_data
from camshaft.engine.data.scenes import ScenesSettings
from camshaft.engine.runtime.console import Console
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.stop import StopFlag
from camshaft.engine.stages.stage import Product, StageContext, StageOutput

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
