from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from camshaft.engine.models.resnet import ResNet, ResNet50Settings, ResNet101Settings

Randomised = Callable[[nn.Module], nn.Module]
ADAPTER: TypeAdapter[ResNet50Settings | ResNet101Settings] = TypeAdapter(ResNet50Settings | ResNet101Settings)


def build(name: str = "resnet50", **settings: Any) -> ResNet:
    return ResNet(ADAPTER.validate_python({"name": name, **settings})).eval()


def test_parameters_are_torchvision_s_without_the_classifier() -> None:
    with torch.device("meta"):
        counts = [sum(p.numel() for p in build(name).parameters()) for name in ("resnet50", "resnet101")]
    assert counts == [25_557_032 - 2_049_000, 44_549_160 - 2_049_000]


def test_names_are_torchvision_s() -> None:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv1.weight", *(f"bn1.{name}" for name in norm)}
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            prefix = f"layer{stage}.{block}"
            for number in (1, 2, 3):
                expected |= {f"{prefix}.conv{number}.weight", *(f"{prefix}.bn{number}.{name}" for name in norm)}
            if block == 0:
                expected |= {f"{prefix}.downsample.0.weight", *(f"{prefix}.downsample.1.{name}" for name in norm)}
    with torch.device("meta"):
        assert set(build().state_dict()) == expected


@pytest.mark.parametrize("stride_in_1x1", [False, True])
def test_a_dilated_network_computes_the_strided_one_s_features_and_those_between(
    stride_in_1x1: bool, randomised: Randomised
) -> None:
    strided = randomised(build(output_stride=32, stride_in_1x1=stride_in_1x1))
    torch.manual_seed(1)
    image = torch.randn(1, 3, 65, 64)
    strides: tuple[Literal[8, 16], ...] = (8, 16)
    with torch.no_grad():
        expected = strided(image)
        for stride in strides:
            dilated = build(output_stride=stride, stride_in_1x1=stride_in_1x1)
            dilated.load_state_dict(strided.state_dict())
            features = dilated(image)
            assert features.shape == (1, 2048, -(-65 // stride), 64 // stride)
            ratio = 32 // stride
            error = (features[:, :, ::ratio, ::ratio] - expected).abs().max()
            assert error <= 1e-5 * expected.abs().max()


def test_where_the_stride_lies_makes_a_difference(randomised: Randomised) -> None:
    late = randomised(build())
    early = build(stride_in_1x1=True)
    early.load_state_dict(late.state_dict())
    with torch.no_grad():
        image = torch.randn(1, 3, 33, 33)
        assert not torch.allclose(late(image), early(image))
    assert early.get_submodule("layer2.0.conv1").stride == (2, 2)
    assert early.get_submodule("layer2.0.conv2").stride == (1, 1)


def test_resnet101_runs() -> None:
    network = build("resnet101", output_stride=8)
    assert network(torch.zeros(1, 3, 17, 33)).shape == (1, 2048, 3, 5)
    assert list(network.layers()) == ["stem", "layer1", "layer2", "layer3", "layer4"]
