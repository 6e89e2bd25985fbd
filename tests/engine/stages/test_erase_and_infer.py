"""Erase-and-infer against its plain twin, and by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import ValidationError
from torch import Tensor, nn

from camshaft.engine.data import DataSet
from camshaft.engine.models import Classifier
from camshaft.engine.stages.erase_and_infer import EraseAndInfer
from camshaft.engine.stages.maps import InferMaps
from camshaft.engine.stages.stage import Product, StageContext
from camshaft.engine.stores import MapStore

MakeContext = Callable[..., StageContext]
Save = Callable[..., Classifier]


def stage_with(**values: object) -> EraseAndInfer:
    settings = {"id": "again", "kind": "erase_and_infer", "network": "net", "align_corners": False, "grid_stride": 1}
    return EraseAndInfer.model_validate({**settings, "scales": [1.0], "flip": False, **values})


class Channels(nn.Module):
    """The map of class c is the image's channel c."""

    stride = 1

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :2]


def infer(stage: EraseAndInfer, image: Tensor, tags: list[list[float]]) -> Tensor:
    size = (image.shape[2], image.shape[3])
    return stage.infer(Channels(), image, torch.tensor(tags), size, arithmetic="fp32")  # type: ignore[arg-type]


def one_row(*channels: list[float]) -> Tensor:
    return torch.stack([torch.tensor([values]) for values in channels])[None]


def test_what_is_highlighted_is_erased_and_what_is_left_comes_to_light() -> None:
    """8 is above half of the maximum, then 3 of what is left, then 1; divided by the first maximum they stay small."""
    image = one_row([8.0, 3.0, 1.0, 0.0], [0.0] * 4, [1.0] * 4)
    rounds = {number: infer(stage_with(rounds=number), image, [[1, 0]])[0, 0, 0].tolist() for number in range(3)}
    assert rounds[0] == pytest.approx([1, 3 / 8, 1 / 8, 0], abs=1e-4)
    assert rounds[1] == pytest.approx([1, 1, 1 / 3, 0], abs=1e-4)
    assert rounds[2] == pytest.approx([1, 1, 1, 0], abs=1e-4)
    first = infer(stage_with(rounds=2, divide_by="first"), image, [[1, 0]])[0, 0, 0].tolist()
    assert first == pytest.approx([1, 3 / 8, 1 / 8, 0], abs=1e-4)
    # 1 + 0, 3/8 + 1, 1/8 + 1/3, divided by the largest of them.
    summed = infer(stage_with(rounds=1, aggregate="sum"), image, [[1, 0]])[0, 0, 0]
    assert summed.tolist() == pytest.approx([8 / 11, 1, (1 / 8 + 1 / 3) * 8 / 11, 0], abs=1e-4)


def test_erased_pixels_are_gone_for_all_classes_or_for_their_own() -> None:
    """The first class lights the first pixel, which the second class needs too."""
    image = one_row([8.0, 0.0, 4.0, 0.0], [2.0, 8.0, 0.0, 1.0], [0.0] * 4)
    agnostic = infer(stage_with(rounds=1), image, [[1, 1]])[0, :, 0]
    assert agnostic[0].tolist() == pytest.approx([1, 0, 1, 0], abs=1e-4)
    assert agnostic[1].tolist() == pytest.approx([2 / 8, 1, 0, 1], abs=1e-4)
    specific = infer(stage_with(rounds=1, erasing="class_specific"), image, [[1, 1]])[0, :, 0]
    assert specific[0].tolist() == pytest.approx([1, 0, 1, 0], abs=1e-4)
    assert specific[1].tolist() == pytest.approx([1, 1, 0, 1 / 2], abs=1e-4)


def test_images_of_a_batch_do_not_mix_and_absent_classes_stay_zero() -> None:
    generator = torch.Generator().manual_seed(2)
    images, tags = torch.rand(3, 3, 4, 5, generator=generator), [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]
    for erasing in ("class_agnostic", "class_specific"):
        stage = stage_with(rounds=3, erasing=erasing)
        together = infer(stage, images, tags)
        for position in range(3):
            alone = infer(stage, images[position : position + 1], [tags[position]])
            assert torch.equal(together[position], alone[0])
        assert not together[1, 0].any()
        assert not together[2, 1].any()


def plain_twin(network: Classifier, image: np.ndarray, stage: EraseAndInfer, classes: list[int]) -> Tensor:
    """(K, h, w), pass by pass, with no part of the stage's own code."""
    mean, std = (
        torch.tensor(value).view(1, 3, 1, 1) for value in (network.normalization.mean, network.normalization.std)
    )
    pixels = (torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255 - mean) / std
    height, width = image.shape[:2]
    grid = (-(-(height - 1) // 8) + 1, -(-(width - 1) // 8) + 1)
    gathered = torch.zeros(len(classes), *grid)
    if not classes:
        return gathered
    for _ in range(stage.rounds + 1):
        total = torch.zeros(len(classes), *grid)
        for scale in stage.scales:
            size = [round((side * scale - 1) / 16) * 16 + 1 for side in (height, width)]
            scaled = F.interpolate(pixels, size=size, mode="bicubic", antialias=True)
            for flip in (False, True):
                with torch.no_grad():
                    maps = network(scaled.flip(3) if flip else scaled)
                maps = maps.flip(3) if flip else maps
                total += F.interpolate(maps, size=grid, mode="bilinear", align_corners=True).relu()[0, classes]
        found = total / (total.amax((1, 2), keepdim=True) + 1e-5)
        gathered = torch.maximum(gathered, found)
        full = F.interpolate(found[None], size=(height, width), mode="bilinear", align_corners=True)[0]
        pixels = torch.where((full > stage.threshold).any(0), 0.0, pixels)
    return gathered


def test_a_store_of_maps_equals_the_plain_twin(
    make_context: MakeContext, save_classifier: Save, scenes: DataSet, tmp_path: Path
) -> None:
    network = save_classifier(tmp_path / "net", scenes.classes)
    stage = EraseAndInfer.model_validate(
        {"id": "again", "kind": "erase_and_infer", "network": "net", "splits": ["val"], "rounds": 2,
         "scales": [0.5, 1.0], "encoding": "float16", "batch_size": 3}
    )  # fmt: skip
    context = make_context({"net": (Product.CLASSIFIER, tmp_path / "net", {})})
    assert stage.run(context)["val"]["images"] == 4
    store = MapStore.open(context.folder / "val")
    assert store.ids == scenes.ids("val")
    for row, image_id in zip(scenes.tags("val"), store.ids, strict=True):
        classes = np.flatnonzero(row).tolist()
        maps = store.read(store.index(image_id))
        assert maps.classes.tolist() == classes
        expected = plain_twin(network, scenes.image(image_id), stage, classes)
        assert np.abs(maps.values - expected.numpy()).max(initial=0) < 3e-3


def test_no_round_beyond_the_first_makes_the_maps_of_the_maps_stage(
    make_context: MakeContext, save_classifier: Save, scenes: DataSet, tmp_path: Path
) -> None:
    save_classifier(tmp_path / "net", scenes.classes)
    context = make_context({"net": (Product.CLASSIFIER, tmp_path / "net", {})})
    common = {"id": "maps", "network": "net", "splits": ["val"], "scales": [1.0]}
    InferMaps.model_validate({**common, "kind": "maps", "splits": ["val"]}).run(context)
    plain = MapStore.open(context.folder / "val")
    expected = [plain.read(index).values for index in range(len(plain.ids))]
    (context.folder / "val").rename(context.folder / "before")
    EraseAndInfer.model_validate({**common, "kind": "erase_and_infer", "rounds": 0}).run(context)
    again = MapStore.open(context.folder / "val")
    assert all((again.read(index).values == values).all() for index, values in enumerate(expected))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rounds": -1}, "greater than or equal to 0"),
        ({"threshold": 1.0}, "less than 1"),
        ({"divide_by": "first", "reduction": "max"}, "divide_by: first needs reduction: sum"),
        ({"divide": False}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        stage_with(**values)
