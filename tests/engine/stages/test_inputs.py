"""Maps and masks that are not this run's: every stage that reads some says so in one line, before it does anything."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from camshaft.engine.data import DataSet, open_data
from camshaft.engine.data.scenes import ScenesSettings
from camshaft.engine.errors import StoreError
from camshaft.engine.models import AffinityNetSettings, build_affinity_net, save_network
from camshaft.engine.stages.affinity import Affinity
from camshaft.engine.stages.crf import Crf
from camshaft.engine.stages.evaluate import Evaluate
from camshaft.engine.stages.labels import Labels
from camshaft.engine.stages.refine import Refine
from camshaft.engine.stages.segment import Segment
from camshaft.engine.stages.stage import Product, Stage, StageContext
from camshaft.engine.stages.walk import Walk
from camshaft.engine.stores import MaskFolder

MakeContext = Callable[..., StageContext]
Write = Callable[..., Path]

BACKBONE = {"name": "efficientnet_lite0", "weights": None, "head": False}
LEVELS = [{"layer": "stage3", "channels": 8}]
TRAINING = {"backbone": BACKBONE, "iterations": 1, "batch_size": 2, "augmentation": {"crop": 73}}

OF_MAPS: dict[str, Callable[[], Stage]] = {
    "crf": lambda: Crf(id="crf", kind="crf", maps="in"),
    "labels": lambda: Labels(id="labels", kind="labels", maps="in", threshold=0.3),
    "refine": lambda: Refine.model_validate({"id": "refined", "kind": "refine", "maps": "in", **TRAINING}),
    "walk": lambda: Walk(id="walk", kind="walk", network="net", maps="in", steps=1),
    "evaluate": lambda: Evaluate(id="scores", kind="evaluate", of=("in",), split="train"),
}
OF_CRF_MASKS: dict[str, Callable[[], Stage]] = {
    "labels": lambda: Labels(id="labels", kind="labels", crf="in"),
    "affinity": lambda: Affinity.model_validate(
        {"id": "affinity", "kind": "affinity", "labels": "in", "levels": LEVELS, "border": "none", **TRAINING}
    ),
    "evaluate": lambda: Evaluate(id="scores", kind="evaluate", of=("in",), split="train"),
}
OF_MASKS: dict[str, Callable[[], Stage]] = {
    "segment": lambda: Segment.model_validate({"id": "deeplab", "kind": "segment", "labels": "in", **TRAINING}),
    "evaluate": lambda: Evaluate(id="scores", kind="evaluate", of=("in",), split="train"),
}


def other_scenes(**settings: Any) -> DataSet:
    """Those of another run, which go by the same names."""
    return open_data(
        ScenesSettings.model_validate(
            {"kind": "scenes", "train": 6, "val": 4, "height": 64, "width": 80, "seed": 11, **settings}
        ),
        Path(),
    )


def of_other_classes(path: Path, write: Write, scenes: DataSet) -> None:
    write(path, "train", classes=("tiger", *scenes.classes[1:]))


def of_another_split(path: Path, write: Write, _scenes: DataSet) -> None:
    write(path, "val")


def of_fewer_images(path: Path, write: Write, _scenes: DataSet) -> None:
    write(path, "train", data=other_scenes(train=5))


def of_images_of_other_sizes(path: Path, write: Write, _scenes: DataSet) -> None:
    write(path, "train", data=other_scenes(seed=12))


def of_other_tags(path: Path, write: Write, scenes: DataSet) -> None:
    tags = scenes.tags("train")
    tags[3] = 1 - tags[3]
    write(path, "train", tags=tags)


def cut_short(path: Path, write: Write, _scenes: DataSet) -> None:
    write(path, "train")
    (shard,) = (path / "values/c").iterdir()
    shard.write_bytes(shard.read_bytes()[:-100])


def not_finished(path: Path, write: Write, _scenes: DataSet) -> None:
    (write(path, "train") / "manifest.json").unlink()


FAULTS_OF_MAPS = [
    (of_other_classes, r"in/train: maps of the classes tiger, .*, but the data has "),
    (of_another_split, r"in/train: maps of other images than those of train: 'train-000000' is not in both$"),
    (of_fewer_images, r"in/train: maps of other images than those of train: 'train-000005' is not in both$"),
    (of_images_of_other_sizes, r"in/train: 'train-000000' has maps of an image of \d+×\d+, but the data's is of \d+×"),
    (of_other_tags, r"in/train: 'train-000003' has maps of \w+.*, but the data's tags name \w+"),
    (cut_short, r"in/train/values/c/0: damaged: \d+ bytes, expected \d+; remove .*in/train and run again$"),
    (not_finished, r"in/train: not complete: it has no manifest; remove "),
]


def stopped(stage: Stage, context: StageContext) -> str:
    """The line with which the stage ends; nothing was begun."""
    before = {path for path in context.folder.rglob("*") if path.is_file()}
    with pytest.raises(StoreError) as raised:
        stage.run(context)
    assert {path for path in context.folder.rglob("*") if path.is_file()} == before
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("reader", OF_MAPS)
@pytest.mark.parametrize(("spoil", "message"), FAULTS_OF_MAPS, ids=lambda value: getattr(value, "__name__", ""))
def test_maps_of_another_run_are_named(
    make_context: MakeContext,
    write_maps: Write,
    scenes: DataSet,
    tmp_path: Path,
    reader: str,
    spoil: Callable[[Path, Write, DataSet], None],
    message: str,
) -> None:
    spoil(tmp_path / "in/train", write_maps, scenes)
    torch.manual_seed(0)
    settings = AffinityNetSettings.model_validate({"backbone": BACKBONE, "levels": LEVELS})
    (tmp_path / "net").mkdir()
    save_network(tmp_path / "net/network.safetensors", build_affinity_net(settings, scenes.classes, tmp_path))
    context = make_context({"in": (Product.MAPS, tmp_path / "in", {}), "net": (Product.AFFINITY, tmp_path / "net", {})})
    assert re.search(message, stopped(OF_MAPS[reader](), context))


def masks_of_another_split(path: Path, write: Write, _scenes: DataSet) -> None:
    write(path, "val")


def masks_of_fewer_images(path: Path, write: Write, _scenes: DataSet) -> None:
    write(path, "train", data=other_scenes(train=5))


def masks_in_another_order(path: Path, write: Write, scenes: DataSet) -> None:
    write(path, "train")
    MaskFolder.create(path, scenes.palette, scenes.file_values).finalize(scenes.ids("train")[::-1], {})


def masks_of_other_classes(path: Path, write: Write, scenes: DataSet) -> None:
    write(path, "train", file_values=(*scenes.file_values, 200))


def masks_not_finished(path: Path, write: Write, _scenes: DataSet) -> None:
    (write(path, "train") / "manifest.json").unlink()


FAULTS_OF_MASKS = [
    (masks_of_another_split, r": masks of other images than those of train: 'train-000000' is not in both$"),
    (masks_of_fewer_images, r": masks of other images than those of train: 'train-000005' is not in both$"),
    (masks_in_another_order, r": masks of other images than those of train: they are in another order$"),
    (masks_of_other_classes, r": masks of other classes: their values are 0, 1, .*, 200, but the data's are 0, 1, "),
    (masks_not_finished, r": not complete: it has no manifest; remove "),
]


@pytest.mark.parametrize("reader", OF_CRF_MASKS)
@pytest.mark.parametrize(("spoil", "message"), FAULTS_OF_MASKS, ids=lambda value: getattr(value, "__name__", ""))
def test_crf_masks_of_another_run_are_named(
    make_context: MakeContext,
    write_masks: Write,
    scenes: DataSet,
    tmp_path: Path,
    reader: str,
    spoil: Callable[[Path, Write, DataSet], None],
    message: str,
) -> None:
    write_masks(tmp_path / "in/train/alpha-4", "train")
    spoil(tmp_path / "in/train/alpha-32", write_masks, scenes)
    record = {"settings": {"alphas": [4.0, 32.0]}}
    context = make_context({"in": (Product.CRF, tmp_path / "in", record)})
    assert re.search("in/train/alpha-32" + message, stopped(OF_CRF_MASKS[reader](), context))


@pytest.mark.parametrize("reader", OF_MASKS)
@pytest.mark.parametrize(("spoil", "message"), FAULTS_OF_MASKS, ids=lambda value: getattr(value, "__name__", ""))
def test_masks_of_another_run_are_named(
    make_context: MakeContext,
    write_masks: Write,
    scenes: DataSet,
    tmp_path: Path,
    reader: str,
    spoil: Callable[[Path, Write, DataSet], None],
    message: str,
) -> None:
    spoil(tmp_path / "in/train", write_masks, scenes)
    context = make_context({"in": (Product.MASKS, tmp_path / "in", {})})
    assert re.search("in/train" + message, stopped(OF_MASKS[reader](), context))
