"""Multi-scale inference: equal to inferring image by image, pass by pass, as the papers' code does."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import ValidationError

from camshaft.engine.data import DataSet
from camshaft.engine.models import Classifier
from camshaft.engine.stages.maps import InferMaps
from camshaft.engine.stages.stage import Product
from camshaft.engine.stores import MapStore


def maps_one_by_one(network: Classifier, image: np.ndarray, stage: InferMaps, grid: tuple[int, int]) -> torch.Tensor:
    """(C, h, w): the definition, for one image and all classes."""
    mean, std = (
        torch.tensor(value).view(1, 3, 1, 1) for value in (network.normalization.mean, network.normalization.std)
    )
    pixels = (torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255 - mean) / std
    passes = []
    for scale in stage.scales:
        sides = image.shape[:2] if stage.square is None else (stage.square, stage.square)
        size = [round(side * scale) for side in sides]
        if stage.align_corners:
            size = [round((side * scale - 1) / 16) * 16 + 1 for side in sides]
        scaled = F.interpolate(pixels, size=size, mode="bicubic", antialias=True)
        for flip in (False, True):
            with torch.no_grad():
                maps = network(scaled.flip(3) if flip else scaled)
            maps = maps.flip(3) if flip else maps
            divided = stage.reduction == "max" and stage.divide
            maps = maps.relu() if divided else maps  # DRS's code rectifies first, OC-CSE's last
            maps = F.interpolate(maps, size=grid, mode="bilinear", align_corners=stage.align_corners).relu()
            passes.append(maps / (maps.amax((2, 3), keepdim=True) + 1e-5) if divided else maps)
    if not stage.divide:
        return torch.stack(passes).amax(0)[0].clamp(max=1)
    if stage.reduction == "max":
        return torch.stack(passes).amax(0)[0]
    total = torch.stack(passes).sum(0)
    return (total / (total.amax((2, 3), keepdim=True) + 1e-5))[0]


@pytest.mark.parametrize(
    ("reduction", "aligned", "further"),
    [
        ("sum", True, {}),
        ("max", True, {}),
        ("sum", False, {}),
        ("max", True, {"square": 97, "scales": [1.0]}),
        ("max", False, {"square": 90, "scales": [1.0], "divide": False}),
    ],
)
def test_maps_equal_their_definition(  # type: ignore[no-untyped-def]
    make_context,
    save_classifier,
    scenes: DataSet,
    tmp_path: Path,
    reduction: str,
    aligned: bool,
    further: dict[str, object],
) -> None:
    network = save_classifier(tmp_path / "net", scenes.classes)
    stage = InferMaps.model_validate(
        {"id": "maps", "kind": "maps", "network": "net", "splits": ["train", "val"], "scales": [0.5, 1.0, 1.25],
         "reduction": reduction, "align_corners": aligned, "encoding": "float16", "batch_size": 3, **further}
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


def test_undivided_maps_are_not_summed() -> None:
    with pytest.raises(ValidationError, match="divide: false needs reduction: max"):
        InferMaps.model_validate({"id": "maps", "kind": "maps", "network": "net", "divide": False})


def test_maps_made_before_stay_valid() -> None:
    """Settings that came later take no part in the fingerprint at their default."""
    stage = InferMaps.model_validate({"id": "maps", "kind": "maps", "network": "net"})
    assert not {"square", "divide"} & stage.fingerprinted_settings().keys()
    stage = InferMaps.model_validate({"id": "maps", "kind": "maps", "network": "net", "square": 320})
    assert stage.fingerprinted_settings()["square"] == 320
