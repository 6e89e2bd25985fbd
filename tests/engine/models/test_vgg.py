from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from camshaft.engine.models.vgg import VGG16, VGG16Settings

CONVOLUTIONS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""The indices of torchvision's VGG-16 convolutions, block by block."""


def build(**settings: Any) -> VGG16:
    torch.manual_seed(0)
    return VGG16(VGG16Settings.model_validate(settings)).eval()


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_names_are_torchvision_s() -> None:
    names = {f"features.{index}.{kind}" for block in CONVOLUTIONS for index in block for kind in ("weight", "bias")}
    assert set(build(form="largefov").state_dict()) == names
    extra = {f"extra.{index}.{kind}" for index in (0, 2, 4) for kind in ("weight", "bias")}
    assert set(build().state_dict()) == names | extra


def test_parameters() -> None:
    with torch.device("meta"):
        assert parameters(build(form="largefov")) == 14_714_688
        assert parameters(build()) == 14_714_688 + 3 * (512 * 512 * 9 + 512)


def by_hand(network: VGG16, image: Tensor) -> Tensor:
    """The settings table, line by line."""
    weights = network.state_dict()

    def convolve(x: Tensor, name: str, dilation: int = 1) -> Tensor:
        out = functional.conv2d(
            x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=dilation, dilation=dilation
        )
        return out.relu()

    x = image
    for number, block in enumerate(CONVOLUTIONS, start=1):
        for index in block:
            x = convolve(x, f"features.{index}", dilation=2 if number == 5 else 1)
        if number <= 3:
            x = functional.max_pool2d(x, 2, stride=2)
        if number == 4:
            x = functional.max_pool2d(x, 3, stride=1, padding=1)
    for index in (0, 2, 4):
        x = convolve(x, f"extra.{index}")
    return x


def test_the_drs_form_is_the_authors() -> None:
    network = build()
    image = torch.randn(1, 3, 48, 32)
    with torch.no_grad():
        features = network(image)
        assert features.shape == (1, 512, 6, 4)
        assert features.abs().max() > 0
        torch.testing.assert_close(features, by_hand(network, image))


@pytest.mark.parametrize("form", ["drs", "largefov"])
@pytest.mark.parametrize("stride", [8, 16])
def test_stride_is_what_it_says_for_sizes_that_it_does_not_divide(form: str, stride: int) -> None:
    network = build(form=form, output_stride=stride)
    assert network.stride == stride
    assert network(torch.zeros(1, 3, 41, 57)).shape == (1, 512, -(-41 // stride), -(-57 // stride))


def test_new_convolutions_start_as_the_authors_have_them() -> None:
    extra = build().get_submodule("extra.0")
    assert isinstance(extra, nn.Conv2d)
    assert extra.bias is not None
    assert extra.weight.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)
    assert extra.bias.abs().max() == 0


def test_layers_are_the_blocks_and_the_new_convolutions() -> None:
    layers = build().layers()
    assert list(layers) == [f"layer{number}" for number in range(1, 7)]
    assert layers["layer3"] == tuple(f"features.{index}" for index in range(10, 16))
    assert list(build(form="largefov").layers()) == [f"layer{number}" for number in range(1, 6)]
