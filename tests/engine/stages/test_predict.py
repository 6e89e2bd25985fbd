"""Prediction over scales and flips: the mean of probabilities, and DeepLab-v2's maximum of logits, by definition."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import ValidationError

from camshaft.engine.data import DataSet
from camshaft.engine.models import Segmenter, SegmenterSettings, build_segmenter, save_network
from camshaft.engine.stages.predict import Predict
from camshaft.engine.stages.stage import Product
from camshaft.engine.stores import MaskFolder


def make_network(folder: Path, classes: tuple[str, ...]) -> Segmenter:
    torch.manual_seed(0)
    settings = SegmenterSettings.model_validate(
        {
            "backbone": {"name": "efficientnet_lite0", "output_stride": 16},
            "head": {"name": "aspp", "dilations": [1, 2]},
        }
    )
    network = build_segmenter(settings, classes, folder)
    folder.mkdir()
    save_network(folder / "network.safetensors", network)
    return network


def probabilities(network: Segmenter, image: np.ndarray, reduction: str) -> torch.Tensor:
    """(C + 1, H, W), pass by pass."""
    mean, std = (
        torch.tensor(value).view(1, 3, 1, 1) for value in (network.normalization.mean, network.normalization.std)
    )
    pixels = (torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255 - mean) / std
    passes = []
    for scale in (0.5, 1.5):
        size = [round((side * scale - 1) / 16) * 16 + 1 for side in image.shape[:2]]
        scaled = F.interpolate(pixels, size=size, mode="bicubic", antialias=True)
        with torch.no_grad():
            passes += [network(scaled), network(scaled.flip(3)).flip(3)]

    def upsampled(logits: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=True)

    if reduction == "mean":
        return torch.stack([upsampled(one, image.shape[:2]).softmax(1) for one in passes]).mean(0)[0]
    grid = tuple(passes[2].shape[2:])  # that of scale 1.5
    maximum = torch.stack([upsampled(one, grid) for one in passes]).amax(0)
    return upsampled(maximum, image.shape[:2]).softmax(1)[0]


@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_predictions_equal_their_definition(  # type: ignore[no-untyped-def]
    make_context, scenes: DataSet, tmp_path: Path, reduction: str
) -> None:
    network = make_network(tmp_path / "net", scenes.classes)
    stage = Predict.model_validate(
        {"id": "p", "kind": "predict", "network": "net", "scales": [0.5, 1.5], "reduction": reduction}
    )
    context = make_context({"net": (Product.SEGMENTER, tmp_path / "net", {})})
    stage.run(context)
    masks = MaskFolder.open(context.folder / "val")
    compared = 0
    for image_id in scenes.ids("val"):
        expected = probabilities(network, scenes.image(image_id), reduction)
        best, second = expected.topk(2, 0).values
        clear = (best - second > 1e-4).numpy()
        compared += int(clear.sum())
        assert np.array_equal(masks.read(image_id)[clear], expected.argmax(0).numpy()[clear])
    assert compared > 0.5 * sum(np.prod(scenes.size(image_id)) for image_id in scenes.ids("val"))


def test_a_maximum_needs_several_passes() -> None:
    settings = {"id": "p", "kind": "predict", "network": "net", "reduction": "max"}
    assert Predict.model_validate(settings).flip
    with pytest.raises(ValidationError, match="reduction: max goes with several scales or flip: true"):
        Predict.model_validate({**settings, "flip": False})
    assert "reduction" not in Predict.model_validate({**settings, "reduction": "mean"}).fingerprinted_settings()
