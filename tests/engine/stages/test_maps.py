"""Multi-scale inference: equal to inferring image by image, pass by pass, as the papers' code does."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from camshaft.engine.data import DataSet
from camshaft.engine.errors import WeightsError
from camshaft.engine.models import Classifier, ClassifierSettings, build_classifier, save_network
from camshaft.engine.stages.maps import InferMaps
from camshaft.engine.stages.stage import Product
from camshaft.engine.stores import MapStore


def make_network(folder: Path, classes: tuple[str, ...]) -> Classifier:
    torch.manual_seed(0)
    settings = ClassifierSettings.model_validate({"backbone": {"name": "efficientnet_lite0", "output_stride": 16}})
    network = build_classifier(settings, classes, folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_network(folder / "network.safetensors", network)
    return network


def maps_one_by_one(network: Classifier, image: np.ndarray, stage: InferMaps, grid: tuple[int, int]) -> torch.Tensor:
    """(C, h, w): the definition, for one image and all classes."""
    mean, std = (
        torch.tensor(value).view(1, 3, 1, 1) for value in (network.normalization.mean, network.normalization.std)
    )
    pixels = (torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255 - mean) / std
    passes = []
    for scale in stage.scales:
        size = [round(side * scale) for side in image.shape[:2]]
        if stage.align_corners:
            size = [round((side * scale - 1) / 16) * 16 + 1 for side in image.shape[:2]]
        scaled = F.interpolate(pixels, size=size, mode="bicubic", antialias=True)
        for flip in (False, True):
            with torch.no_grad():
                maps = network(scaled.flip(3) if flip else scaled)
            maps = maps.flip(3) if flip else maps
            maps = maps.relu() if stage.reduction == "max" else maps  # DRS's code rectifies first, OC-CSE's last
            maps = F.interpolate(maps, size=grid, mode="bilinear", align_corners=stage.align_corners).relu()
            passes.append(maps / (maps.amax((2, 3), keepdim=True) + 1e-5) if stage.reduction == "max" else maps)
    if stage.reduction == "max":
        return torch.stack(passes).amax(0)[0]
    total = torch.stack(passes).sum(0)
    return (total / (total.amax((2, 3), keepdim=True) + 1e-5))[0]


@pytest.mark.parametrize(("reduction", "aligned"), [("sum", True), ("max", True), ("sum", False)])
def test_maps_equal_their_definition(  # type: ignore[no-untyped-def]
    make_context, scenes: DataSet, tmp_path: Path, reduction: str, aligned: bool
) -> None:
    network = make_network(tmp_path / "net", scenes.classes)
    stage = InferMaps.model_validate(
        {"id": "maps", "kind": "maps", "network": "net", "splits": ["train", "val"], "scales": [0.5, 1.0, 1.25],
         "reduction": reduction, "align_corners": aligned, "encoding": "float16", "batch_size": 3}
    )  # fmt: skip
    context = make_context({"net": (Product.CLASSIFIER, tmp_path / "net", {})})
    assert stage.run(context)["val"]["images"] == 4
    for split in ("train", "val"):
        store = MapStore.open(context.folder / split)
        assert store.ids == scenes.ids(split)
        for row, image_id in zip(scenes.tags(split), store.ids, strict=True):
            maps, image = store.read(store.index(image_id)), scenes.image(image_id)
            assert maps.classes.tolist() == np.flatnonzero(row).tolist()
            assert maps.image_size == image.shape[:2]
            less = 1 if aligned else 0
            grid = (-(-(image.shape[0] - less) // 8) + less, -(-(image.shape[1] - less) // 8) + less)
            expected = maps_one_by_one(network, image, stage, grid)[np.flatnonzero(row)]
            assert np.abs(maps.values - expected.numpy()).max(initial=0) < 2e-3


def test_a_network_for_other_classes_is_refused(make_context, scenes: DataSet, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    make_network(tmp_path / "net", ("tiger", *scenes.classes[1:]))
    stage = InferMaps.model_validate({"id": "maps", "kind": "maps", "network": "net"})
    with pytest.raises(WeightsError, match=r"was made for the classes tiger, .* but the data has"):
        stage.run(make_context({"net": (Product.CLASSIFIER, tmp_path / "net", {})}))
