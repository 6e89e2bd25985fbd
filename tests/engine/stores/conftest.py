import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from camshaft.engine.stores import Encoding, Layout, MapStore, MapStoreWriter, finalize, plan


@dataclass(frozen=True)
class Scene:
    """A layout and the maps that belong in it."""

    layout: Layout
    maps: list[np.ndarray]

    def write(self, path: Path) -> MapStore:
        writer = MapStoreWriter.create(path, self.layout)
        for block in range(self.layout.block_count):
            writer.write_block(block, self.of(block))
        finalize(path, {"made_by": "a test"})
        return MapStore.open(path)

    def of(self, block: int) -> list[np.ndarray]:
        return [self.maps[index] for index in self.layout.block(block)]


def make_scene(images: int = 24, encoding: Encoding = "uint10", seed: int = 0) -> Scene:
    random = np.random.default_rng(seed)
    grids = random.integers(1, 30, (images, 2))
    lists = [random.permutation(7)[: random.integers(0, 4)].tolist() for _ in range(images)]
    names = [f"image_{number:03d}" for number in range(images)]
    classes = [f"class {number}" for number in range(7)]
    sizes = {"block_images": 7, "shard_values": 6000, "chunk_values": 512}
    layout = plan(names, lists, grids, grids * 8 - 3, classes=classes, encoding=encoding, **sizes)
    return Scene(layout, [random.random(layout.shape(index), np.float32) for index in range(images)])


@pytest.fixture(scope="session")
def scene() -> Scene:
    return make_scene()


@pytest.fixture(scope="session")
def scene_of() -> Callable[..., Scene]:
    return make_scene


def file_bytes(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Every file of a folder by its relative name."""
    return file_bytes


@pytest.fixture
def child() -> Callable[..., "subprocess.Popen[str]"]:
    """Start a Python program in a process of its own."""

    def start(program: str, *arguments: object, prefix: Sequence[str] = ()) -> "subprocess.Popen[str]":
        command = [*prefix, sys.executable, "-P", "-c", program, *map(str, arguments)]
        return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    return start
