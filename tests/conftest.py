"""What tests of several rooms share: a tiny recipe of every kind of stage, the command line, and real photos."""

import copy
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
AUGMENTATION = {"resize": {"long_side": [64, 96]}, "flip": 0.5, "crop": 64}
NETWORK = {
    "backbone": {"name": "efficientnet_lite0", "output_stride": 16},
    "epochs": 2,
    "batch_size": 4,
    "optimizer": {"kind": "sgd", "lr": 0.01},
    "augmentation": AUGMENTATION,
    "checkpoint_every": {"steps": 1},
}
PASSES = {"scales": [0.5, 1.0]}
TINY: Mapping[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "data": {"kind": "scenes", "train": 8, "val": 4, "height": 64, "width": 80},
    "stages": [
        {"id": "ordinary", "kind": "classify", **NETWORK},
        {
            "id": "drs",
            "kind": "classify",
            **NETWORK,
            "suppression": {"controller": "learnable", "layers": ["stage7"]},
        },
        {"id": "cgnet", "kind": "erase", "guide": "ordinary", **NETWORK},
        {"id": "maps_drs", "kind": "maps", "network": "drs", "splits": ["val"], "reduction": "max", **PASSES},
        {"id": "maps", "kind": "maps", "network": "cgnet", "splits": ["train", "val"], **PASSES},
        {"id": "crf", "kind": "crf", "maps": "maps", "splits": ["train", "val"], "alphas": [2, 16]},
        {"id": "labels", "kind": "labels", "crf": "crf", "splits": ["train", "val"]},
        {
            "id": "deeplab",
            "kind": "segment",
            "labels": "labels",
            **NETWORK,
            "head": {"name": "largefov", "channels": 32, "dilation": 2},
        },
        {"id": "prediction", "kind": "predict", "network": "deeplab", "splits": ["val"], "crf": {}},
        {
            "id": "scores",
            "kind": "evaluate",
            "of": ["maps_drs", "maps", "crf", "labels", "prediction"],
            "split": "val",
            "sweep": {"step": 0.05},
        },
    ],
}


@pytest.fixture
def tiny() -> dict[str, Any]:
    """A recipe with a stage of every kind, that runs in seconds."""
    return copy.deepcopy(dict(TINY))


@pytest.fixture
def write_recipe(tmp_path: Path) -> Callable[[Mapping[str, Any]], Path]:
    """Write a recipe to a file and return its path."""

    def write(recipe: Mapping[str, Any]) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(dict(recipe), sort_keys=False))
        return path

    return write


Camshaft = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def camshaft(tmp_path: Path) -> Camshaft:
    """Start the command line as a user does, in a process of its own; the caller waits for it or kills it."""

    def start(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "camshaft.engine.cli", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


class StartRanks(Protocol):
    """Starts a Python file on some ranks, each with one thread."""

    def __call__(self, worker: Path, *arguments: str | Path, ranks: int = 2) -> list[subprocess.Popen[str]]: ...


@pytest.fixture(scope="module")
def start_ranks() -> Iterator[StartRanks]:
    """Start ranks; who is left in the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(worker: Path, *arguments: str | Path, ranks: int = 2) -> list[subprocess.Popen[str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            launched = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(ranks)}
        for rank in map(str, range(ranks)):
            process = subprocess.Popen(
                [sys.executable, str(worker), *map(str, arguments)],
                env={**os.environ, **launched, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            started.append(process)
        return started[-ranks:]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def voc6() -> Path:
    """Real photos with tags and masks, where they are at hand."""
    folder = Path(os.environ.get("CAMSHAFT_VOC6", ROOT.parent / "shared/data/voc6"))
    if not folder.is_dir():
        pytest.skip("no real photos: set CAMSHAFT_VOC6 to a folder in VOC's layout with six classes")
    return folder
