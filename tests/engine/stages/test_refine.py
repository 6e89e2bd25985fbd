"""Refinement learning: targets move as images do, the network is the classifier's without suppression, maps follow."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from camshaft.engine.data import Augmentation, DataSet, Loader, Normalization
from camshaft.engine.models import Classifier, load_network
from camshaft.engine.stages import seeds
from camshaft.engine.stages.maps import InferMaps
from camshaft.engine.stages.networks import FILE
from camshaft.engine.stages.refine import Refine, dense_maps
from camshaft.engine.stages.stage import Product
from camshaft.engine.stores import MapStore

SETTINGS: dict[str, Any] = {
    "id": "refined",
    "kind": "refine",
    "maps": "maps",
    "backbone": {"name": "efficientnet_lite0", "output_stride": 16},
    "iterations": 3,
    "batch_size": 2,
    "augmentation": {"resize": {"long_side": [64, 90]}, "flip": 0.5, "crop": 65},
    "log_every": 1,
}


def test_the_defaults_are_the_paper_s() -> None:
    stage = Refine.model_validate({key: SETTINGS[key] for key in ("id", "kind", "maps", "backbone")} | {"epochs": 15})
    assert (stage.optimizer.kind, stage.optimizer.lr, stage.optimizer.weight_decay) == ("adam", 1e-4, 0)
    assert (stage.batch_size, stage.resolution, stage.strongest_only) == (5, "output", False)
    assert stage.schedule.kind == "steps"
    assert stage.schedule.at == (5, 10)
    assert set(stage.multipliers.model_dump(include={"new_weights", "new_biases", "pretrained_biases"}).values()) == {1}


def test_the_network_is_drs_s_without_suppression() -> None:
    stage = Refine.model_validate({**SETTINGS, "backbone": {"name": "vgg16"}})
    torch.manual_seed(0)
    network = stage.build(("cat", "dog"), Path())
    assert isinstance(network, Classifier)
    assert network.backbone.suppressed == ()
    new = [network.backbone.get_submodule(f"extra.{number}") for number in (0, 2, 4)]
    for layer in [*new, network.head]:
        assert float(layer.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert all(not layer.bias.any() for layer in new)
    first = network.backbone.get_submodule("features.0")
    assert float(first.weight.detach().std()) > 0.05


@pytest.mark.parametrize("aligned", [True, False])
def test_targets_move_as_the_images_do(write_maps, scenes: DataSet, tmp_path: Path, aligned: bool) -> None:  # type: ignore[no-untyped-def]
    store = MapStore.open(write_maps(tmp_path / "maps", "train", aligned=aligned))
    ids, tags = scenes.ids("train"), scenes.tags("train")
    loader = Loader(
        scenes, ids, tags, augmentation=Augmentation(flip=1.0, crop=120), normalization=Normalization(), batch_size=1,
        seed=0, targets=dense_maps(store), workers=0, shuffle=False,
    )  # fmt: skip
    for batch, image_id, present in zip(loader.epoch(0), ids, tags, strict=True):
        assert batch.target is not None
        assert batch.target.shape == (1, len(scenes.classes), 120, 120)
        inside = batch.image[0].abs().sum(0) > 0
        rows, columns = (torch.nonzero(inside.any(axis)).flatten() for axis in (1, 0))
        height, width = scenes.size(image_id)
        assert (len(rows), len(columns)) == (height, width)
        target = batch.target[0, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].numpy()
        maps, classes = seeds.of_image(store, image_id)
        assert np.array_equal(target[classes], maps[:, :, ::-1])
        assert not target[present == 0].any()
        assert float(batch.target.sum()) == pytest.approx(float(maps.sum()), rel=1e-4)


@pytest.mark.parametrize(
    "preset", [{}, {"resolution": "input", "strongest_only": True, "augmentation": {"resize": {"square": 64}}}]
)
def test_a_refinement_network_gives_maps(  # type: ignore[no-untyped-def]
    make_context, write_maps, scenes: DataSet, tmp_path: Path, preset: dict[str, Any]
) -> None:
    write_maps(tmp_path / "maps" / "train", "train")
    stage = Refine.model_validate({**SETTINGS, **preset})
    context = make_context({"maps": (Product.MAPS, tmp_path / "maps", {})})
    figures = stage.run(context)
    assert figures["images"] == 6
    assert 0 < figures["absolute_error"] < 1
    network = load_network(context.folder / FILE)
    assert isinstance(network, Classifier)

    refined = InferMaps.model_validate(
        {"id": "maps2", "kind": "maps", "network": "refined", "reduction": "max", "divide": False, "flip": False,
         "scales": [0.8, 1.0], "square": 81, "encoding": "float16"}
    )  # fmt: skip
    context.folder.rename(tmp_path / "refined")
    context = make_context({"refined": (Product.REFINER, tmp_path / "refined", {})})
    refined.run(context)
    store = MapStore.open(context.folder / "train")
    assert store.ids == scenes.ids("train")
    assert all(maps.values.min(initial=0) >= 0 and maps.values.max(initial=0) <= 1 for maps in store)
