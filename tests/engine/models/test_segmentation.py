from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from camshaft.engine.models import SegmenterSettings, build_segmenter, load_network, save_network
from camshaft.engine.models.segmentation import ASPP, ASPPSettings, LargeFOV, LargeFOVSettings

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


def test_aspp_is_deeplab_v2_s() -> None:
    with torch.device("meta"):
        head = ASPP(2048, 21, ASPPSettings(name="aspp"))
    layers = [layer for layer in head.branches if isinstance(layer, nn.Conv2d)]
    assert [layer.dilation for layer in layers] == [(6, 6), (12, 12), (18, 18), (24, 24)]
    assert {tuple(layer.weight.shape) for layer in layers} == {(21, 2048, 3, 3)}


def test_aspp_sums_its_branches_and_sees_all_their_dilations() -> None:
    torch.manual_seed(0)
    head = ASPP(1, 1, ASPPSettings(name="aspp", dilations=(1, 3)))
    features = torch.randn(1, 1, 9, 9, requires_grad=True)
    logits = head(features)
    torch.testing.assert_close(logits, head.branches[0](features) + head.branches[1](features))
    logits[0, 0, 4, 4].backward()
    assert features.grad is not None
    assert features.grad[0, 0].abs().amax(1).nonzero().flatten().tolist() == [1, 3, 4, 5, 7]
    for layer in head.branches:
        assert isinstance(layer, nn.Conv2d)
        assert layer.weight.abs().max() < 0.05
        assert layer.bias is not None
        assert not layer.bias.any()


def test_a_head_without_a_name_is_largefov_and_each_comes_back_from_its_file(tmp_path: Path) -> None:
    for number, head in enumerate(({"channels": 8}, {"name": "largefov", "channels": 8}, {"name": "aspp"})):
        settings = SegmenterSettings.model_validate({"backbone": LITE, "head": head})
        assert settings.head.name == head.get("name", "largefov")
        network = build_segmenter(settings, ["cat", "dog"], Path())
        save_network(tmp_path / f"{number}.safetensors", network)
        again = load_network(tmp_path / f"{number}.safetensors")
        assert again.settings == settings
        image = torch.randn(1, 3, 33, 33)
        assert torch.equal(again(image), network(image))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"name": "asp"}, "head"),
        ({"name": "aspp", "dilations": []}, "dilations"),
        ({"name": "aspp", "dilations": [0]}, "dilations"),
        ({"name": "aspp", "dropout": 0.5}, "dropout"),
    ],
)
def test_heads_that_do_not_exist_are_refused(head: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SegmenterSettings.model_validate({"backbone": LITE, "head": head})
