from pathlib import Path

import pytest
import torch
from torch import nn

from camshaft.engine.models import SegmenterSettings, build_segmenter
from camshaft.engine.models.segmentation import LargeFOV, LargeFOVSettings

LITE = {"name": "efficientnet_lite0", "weights": None, "head": False}


def test_logits_have_a_channel_more_than_classes_and_the_backbone_s_stride() -> None:
    settings = SegmenterSettings.model_validate({"backbone": LITE, "head": {"channels": 8, "dilation": 2}})
    network = build_segmenter(settings, ["cat", "dog"], Path())
    assert network(torch.randn(2, 3, 65, 33)).shape == (2, 3, 5, 3)
    assert network.stride == 16
    assert network.normalization == network.backbone.normalization
    assert network.settings == settings


def test_largefov_is_deeplab_s() -> None:
    with torch.device("meta"):
        head = LargeFOV(512, 21, LargeFOVSettings())
    assert [tuple(layer.weight.shape) for layer in (head.fc6, head.fc7, head.fc8)] == [
        (1024, 512, 3, 3),
        (1024, 1024, 1, 1),
        (21, 1024, 1, 1),
    ]
    assert head.fc6.dilation == (12, 12)
    assert head.dropout6.p == head.dropout7.p == 0.5


def test_largefov_sees_twice_its_dilation() -> None:
    torch.manual_seed(0)
    head = LargeFOV(1, 2, LargeFOVSettings(channels=16, dilation=3)).eval()
    features = torch.ones(1, 1, 13, 13, requires_grad=True)
    head(features)[0, 0, 6, 6].backward()
    assert features.grad is not None
    rows = features.grad[0, 0].abs().amax(1).nonzero().flatten().tolist()
    assert rows == [3, 6, 9]


def test_new_layers_start_small() -> None:
    torch.manual_seed(0)
    head = LargeFOV(64, 21, LargeFOVSettings())
    for layer in (head.fc6, head.fc7, head.fc8):
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert layer.bias.abs().max() == 0
