"""The walk stage: equal to the dense definition image by image, on two ranks, after a stop; inputs that do not fit."""

import importlib.util
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from camshaft.engine.data import DataSet
from camshaft.engine.errors import Stopped, StoreError, WeightsError
from camshaft.engine.models import AffinityNet, AffinityNetSettings, build_affinity_net, save_network
from camshaft.engine.stages.stage import Product, StageContext
from camshaft.engine.stages.walk import Walk
from camshaft.engine.stores import MapStore
from camshaft.kernels.walk import reference

StartRanks = Callable[..., list[subprocess.Popen[str]]]
MakeContext = Callable[..., StageContext]
LEVELS = [{"layer": "stage3", "channels": 8}, {"layer": "stage5", "channels": 8}]


def make_network(folder: Path, classes: tuple[str, ...], **settings: Any) -> AffinityNet:
    torch.manual_seed(0)
    backbone = {"name": "efficientnet_lite0", "weights": None, "head": False}
    parsed = AffinityNetSettings.model_validate({"backbone": backbone, "levels": LEVELS, **settings})
    network = build_affinity_net(parsed, classes, folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_network(folder / "network.safetensors", network)
    return network


@pytest.fixture
def walking(make_context: MakeContext, scenes: DataSet, write_maps: Callable[..., Path], tmp_path: Path) -> Any:
    """A context with a network and maps of both splits."""

    def make(*, aligned: bool = True, **settings: Any) -> tuple[StageContext, AffinityNet]:
        network = make_network(tmp_path / "net", scenes.classes, align_corners=aligned, **settings)
        for split in ("train", "val"):
            if not (tmp_path / "maps" / split).exists():
                write_maps(tmp_path / "maps" / split, split, aligned=aligned)
        inputs: dict[str, Any] = {
            "net": (Product.AFFINITY, tmp_path / "net", {}),
            "maps": (Product.MAPS, tmp_path / "maps", {}),
        }
        return make_context(inputs), network

    return make


def stage_of(**settings: Any) -> Walk:
    return Walk.model_validate({"id": "walk", "kind": "walk", "network": "net", "maps": "maps", **settings})


def walked_by_definition(network: AffinityNet, image: np.ndarray, maps: np.ndarray, stage: Walk, aligned: bool) -> Any:
    """(K, h, w): one image's maps, with the dense matrix power."""
    mean, std = (
        torch.tensor(value).view(1, 3, 1, 1) for value in (network.normalization.mean, network.normalization.std)
    )
    pixels = (torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255 - mean) / std
    if aligned:
        size = [(cells - 1) * 8 + 1 for cells in maps.shape[1:]]
        pixels = torch.nn.functional.interpolate(pixels, size=size, mode="bicubic", antialias=True)
    with torch.no_grad():
        embedding = network(pixels)[0].numpy()
    bonds = reference.affinities(embedding, stage.radius, stage.border).astype(np.float32)
    if stage.alpha is None:
        scores = reference.walk(bonds, maps, stage.radius, stage.beta, stage.steps)
        return scores / scores.max()
    background = (1 - maps.max(0, keepdims=True)) ** stage.alpha
    scores = reference.walk(bonds, np.concatenate([background, maps]), stage.radius, stage.beta, stage.steps)
    return scores[1:] / (scores[0] + scores[1:].max(0))


@pytest.mark.parametrize(
    ("aligned", "settings"),
    [
        (True, {"border": "none", "radius": 3, "steps": 16, "beta": 2}),
        (True, {"border": "none", "radius": 3, "steps": 16, "beta": 2, "alpha": None, "tolerance": None}),
        (False, {"radius": 3, "implementation": "torch", "alpha": 6, "steps": 64}),
    ],
)
def test_walked_maps_equal_their_definition(
    walking: Any, scenes: DataSet, aligned: bool, settings: dict[str, Any]
) -> None:
    context, network = walking(aligned=aligned)
    context = replace(context, threads=3)
    stage = stage_of(splits=["train", "val"], encoding="float16", **settings)
    assert {split: figures["images"] for split, figures in stage.run(context).items()} == {"train": 6, "val": 4}
    for split in ("train", "val"):
        before = MapStore.open(context.inputs["maps"].folder / split)
        after = MapStore.open(context.folder / split)
        assert after.ids == before.ids
        assert after.provenance == {"stage": "stage", "split": split, "align_corners": aligned}
        for index, image_id in enumerate(after.ids):
            seeds, walked = before.read(index), after.read(index)
            assert walked.classes.tolist() == seeds.classes.tolist()
            assert walked.values.shape == seeds.values.shape
            assert walked.image_size == seeds.image_size
            if len(seeds.classes):
                image = scenes.image(image_id)
                expected = walked_by_definition(network, image, seeds.values, stage, aligned)
                assert np.abs(walked.values - expected).max() < 2e-3
                assert np.abs(walked.values - seeds.values).max() > 0.05


def test_one_half_is_where_the_largest_score_changes_from_background_to_a_class(walking: Any) -> None:
    context, _ = walking()
    stage_of(splits=["train"], steps=0, alpha=16, encoding="uint10").run(context)
    before, after = (MapStore.open(folder / "train") for folder in (context.inputs["maps"].folder, context.folder))
    several = 0
    for index in range(len(after)):
        maps, shares = before.read(index).values, after.read(index).values
        several += len(maps) > 1
        scores = np.concatenate([(1 - maps.max(0, keepdims=True)) ** 16, maps]) if len(maps) else maps
        halves = np.concatenate([np.full_like(scores[:1], 0.5), shares])
        best, second = np.sort(scores, 0)[::-1][:2] if len(maps) else scores
        clear = best > second + 0.01
        assert (halves.argmax(0) == scores.argmax(0))[clear].all()
    assert several


def test_images_without_a_class_have_no_map_and_need_no_network(
    make_context: MakeContext, write_maps: Callable[..., Path], untagged: DataSet, tmp_path: Path
) -> None:
    make_network(tmp_path / "net", untagged.classes)
    write_maps(tmp_path / "maps/train", "train", data=untagged)
    inputs: dict[str, Any] = {
        "net": (Product.AFFINITY, tmp_path / "net", {}),
        "maps": (Product.MAPS, tmp_path / "maps", {}),
    }
    context = make_context(inputs, data=untagged)
    assert stage_of().run(context)["train"]["images"] == 6
    assert [len(maps.classes) for maps in MapStore.open(context.folder / "train")] == [0] * 6


def test_maps_that_do_not_fit_are_named(walking: Any, scenes: DataSet, tmp_path: Path) -> None:
    context, _ = walking()
    maps = context.inputs["maps"].folder
    other = replace(context.inputs["maps"], folder=tmp_path / "other")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/train").symlink_to(maps / "val")
    with pytest.raises(StoreError, match=r"other/train: maps of other images than those of train: '.*' is not in both"):
        stage_of().run(replace(context, inputs={**context.inputs, "maps": other}))
    walking(stride=16, levels=[{"layer": "stage5", "channels": 8}])
    with pytest.raises(StoreError, match=r"maps of a grid of 10×10, but 6×6 is needed \(stride 16\)"):
        stage_of().run(context)
    make_network(tmp_path / "net", ("tiger", *scenes.classes[1:]))
    with pytest.raises(WeightsError, match=r"was made for the classes tiger, .* but the data has"):
        stage_of().run(context)
    (maps / "train/manifest.json").unlink()
    make_network(tmp_path / "net", scenes.classes)
    with pytest.raises(StoreError, match="not complete"):
        stage_of().run(context)


def shards(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ("/c/" in path.as_posix() or path.name == "manifest.json")
    }


@pytest.fixture(scope="module")
def worker() -> Any:
    spec = importlib.util.spec_from_file_location("walk_worker", Path(__file__).with_name("walk_worker.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.two_ranks
def test_two_ranks_write_the_same_bytes_as_one_that_was_stopped_on_the_way(
    worker: Any, start_ranks: StartRanks, tmp_path: Path
) -> None:
    worker.prepare(tmp_path)
    context = worker.context_of(tmp_path, "one")
    context.stop.set("SIGTERM")
    with pytest.raises(Stopped):
        worker.STAGE.run(context)
    folder = tmp_path / "one"
    assert len(list((folder / "train/values/c").iterdir())) == 1, "a block is whole, the others are not begun"
    worker.STAGE.run(worker.context_of(tmp_path, "one"))
    assert len(list((folder / "train/values/c").iterdir())) == 3
    processes = start_ranks(Path(worker.__file__), tmp_path, "two")
    said = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    assert shards(tmp_path / "two") == shards(folder)
