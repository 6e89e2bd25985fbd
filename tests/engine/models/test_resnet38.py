"""ResNet-38: its parameters counted by hand, its names, its strides, and what learns."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from camshaft.engine.errors import RecipeError, WeightsError
from camshaft.engine.models import (
    ClassifierSettings,
    SegmenterSettings,
    SuppressionSettings,
    build_classifier,
    build_segmenter,
    load_weights,
)
from camshaft.engine.models.resnet38 import Block, Bottleneck, ResNet38, ResNet38Settings

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
BLOCKS = ("b2", "b2_1", "b2_2", "b3", "b3_1", "b3_2", *("b4" + end for end in ("", "_1", "_2", "_3", "_4", "_5")))
BLOCKS += ("b5", "b5_1", "b5_2")


def meta(**settings: Any) -> ResNet38:
    with torch.device("meta"):
        return ResNet38(ResNet38Settings(**settings)).eval()


@pytest.fixture(scope="module")
def weights() -> Iterator[dict[str, Tensor]]:
    """Weights whose features are neither zero nor without bound, for networks that share them."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}
    for name, tensor in meta().state_dict().items():
        if tensor.ndim == 4:
            found[name] = torch.empty(tensor.shape).uniform_(-1, 1, generator=generator)
            found[name] *= (3 / tensor[0].numel()) ** 0.5
        elif name.endswith("running_var") or name.endswith("weight"):
            found[name] = torch.empty(tensor.shape).uniform_(0.5, 1.5, generator=generator)
        else:
            found[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
            if found[name].is_floating_point():
                found[name].normal_(0, 0.1, generator=generator)
    yield found
    found.clear()


def loaded(weights: dict[str, Tensor], **settings: Any) -> ResNet38:
    network = meta(**settings)
    network.load_state_dict(weights, assign=True)
    return network


def test_parameters_counted_by_hand() -> None:
    network = meta()
    convolutions = (
        3 * 64 * 9
        + (64 * 128 + 5 * 128 * 128) * 9 + 64 * 128
        + (128 * 256 + 5 * 256 * 256) * 9 + 128 * 256
        + (256 * 512 + 11 * 512 * 512) * 9 + 256 * 512
        + (512 * 512 + 5 * 512 * 1024) * 9 + 512 * 1024
        + 1024 * 512 + 512 * 1024 * 9 + 2 * 1024 * 2048
        + 2048 * 1024 + 1024 * 2048 * 9 + 2 * 2048 * 4096
    )  # fmt: skip
    normalised = (
        (64 + 5 * 128) + (128 + 5 * 256) + (256 + 11 * 512) + (512 + 512 + 2 * (1024 + 512))
        + (1024 + 512 + 1024) + (2048 + 1024 + 2048) + 4096
    )  # fmt: skip
    assert sum(parameter.numel() for parameter in network.parameters()) == convolutions + 2 * normalised == 105_070_912
    # The classifier on top is the 38th layer; 1×1 convolutions beside a block are none.
    assert len([name for name, _ in network.named_parameters() if "conv" in name and "branch1." not in name]) == 37


def test_names_are_those_of_the_weights_that_go_around() -> None:
    expected = {"conv1a.weight", *(f"bn7.{name}" for name in NORM)}
    for block in (*BLOCKS, "b6", "b7"):
        branches = ("2a", "2b1", "2b2") if block in ("b6", "b7") else ("2a", "2b1")
        for branch in branches:
            expected.add(f"{block}.conv_branch{branch}.weight")
            expected |= {f"{block}.bn_branch{branch}.{name}" for name in NORM}
        if "_" not in block:
            expected.add(f"{block}.conv_branch1.weight")
    assert set(meta().state_dict()) == expected


def test_dilations_at_output_stride_8() -> None:
    network = meta()
    three = {
        name: (module.stride[0], module.dilation[0])
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
    }
    assert {name for name, (stride, _) in three.items() if stride == 2} == {f"b{n}.conv_branch2a" for n in (2, 3, 4)}
    assert three["b4_5.conv_branch2b1"] == (1, 1)
    assert three["b5.conv_branch2a"] == (1, 1)
    assert three["b5.conv_branch2b1"] == three["b5_1.conv_branch2a"] == three["b5_2.conv_branch2b1"] == (1, 2)
    assert three["b6.conv_branch2b1"] == three["b7.conv_branch2b1"] == (1, 4)


def test_a_dilated_network_computes_the_strided_one_s_features_and_those_between(weights: dict[str, Tensor]) -> None:
    image = torch.randn(1, 3, 65, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = loaded(weights, output_stride=32)(image)
        assert expected.shape == (1, 4096, 3, 2)
        assert expected.amin() == 0
        assert expected.amax() > 0.1
        for stride in (8, 16):
            features = loaded(weights, output_stride=stride)(image)
            assert features.shape == (1, 4096, -(-65 // stride), 64 // stride)
            ratio = 32 // stride
            error = (features[:, :, ::ratio, ::ratio] - expected).abs().max()
            assert error <= 1e-5 * expected.abs().max()


def test_a_block_by_its_formula() -> None:
    torch.manual_seed(0)
    block = Block(4, 5, 6, stride=2, dilations=(1, 2), projects=True).eval()
    nn.init.normal_(block.bn_branch2a.bias)
    x = torch.randn(1, 4, 9, 8)
    kept = x.clone()
    activated = torch.relu(block.bn_branch2a(x))
    inner = torch.relu(block.bn_branch2b1(nn.functional.conv2d(activated, block.conv_branch2a.weight, None, 2, 1)))
    assert block.conv_branch1 is not None
    expected = nn.functional.conv2d(inner, block.conv_branch2b1.weight, None, 1, 2, 2)
    expected = expected + nn.functional.conv2d(activated, block.conv_branch1.weight, None, 2)
    torch.testing.assert_close(block(x), expected)
    assert torch.equal(x, kept)
    same = Block(4, 5, 4, stride=1, dilations=(1, 1), projects=False).eval()
    nn.init.zeros_(same.conv_branch2b1.weight)
    assert torch.equal(same(x), x)


def test_a_bottleneck_leaves_out_channels_before_its_last_two_convolutions() -> None:
    torch.manual_seed(0)
    block = Bottleneck(8, 32, stride=1, dilation=4, dropout=0.5)
    assert [block.conv_branch2a.out_channels, block.conv_branch2b1.out_channels] == [8, 16]
    for norm in (block.bn_branch2a, block.bn_branch2b1, block.bn_branch2b2):
        norm.eval()
        nn.init.ones_(norm.bias)  # so that a channel that is all zero was left out
    seen: list[tuple[int, float]] = []
    for dropout in (block.dropout_2b1, block.dropout_2b2):
        dropout.register_forward_hook(
            lambda _module, _inputs, y: seen.append((y.shape[1], (y.amax((2, 3)) == 0).float().mean().item()))
        )
    block(torch.zeros(1, 8, 6, 6))
    assert [channels for channels, _ in seen] == [8, 16]
    assert all(0 < share < 1 for _, share in seen)
    block.eval()
    x = torch.randn(1, 8, 6, 6)
    assert torch.equal(block(x), block(x))


def test_dropout_is_that_of_the_settings() -> None:
    network = meta(dropout_b6=0.2)
    rates = {name: module.p for name, module in network.named_modules() if isinstance(module, nn.Dropout2d)}
    assert rates == {"b6.dropout_2b1": 0.2, "b6.dropout_2b2": 0.2, "b7.dropout_2b1": 0.5, "b7.dropout_2b2": 0.5}


def test_conv1a_b2_and_all_normalisation_are_frozen_as_in_affinitynet() -> None:
    network = meta().train()
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert learning == {*BLOCKS[3:], "b6", "b7"}
    assert not any(parameter.requires_grad for name, parameter in network.named_parameters() if "bn" in name)
    assert not any(module.training for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    assert all(module.training for module in network.modules() if isinstance(module, nn.Dropout2d))
    free = meta(freeze=(), batch_norm="train").train()
    assert all(parameter.requires_grad for parameter in free.parameters())
    with pytest.raises(RecipeError, match="no layer 'b8'; there are conv1a, b2, b3, b4, b5, b6, b7, bn7"):
        meta(freeze=("b8",))


@pytest.mark.parametrize(
    ("layers", "count"), [(["*"], 15 * 2 + 2 * 3 + 1), (["b2"], 6), (["b7", "bn7"], 4), (["b5_1.relu_branch2a"], 1)]
)
def test_suppression_takes_its_layers_by_name(layers: list[str], count: int) -> None:
    settings = ClassifierSettings(
        backbone=ResNet38Settings(), suppression=SuppressionSettings(layers=tuple(layers), controller="fixed")
    )
    with torch.device("meta"):
        network = build_classifier(settings, ["cat"], Path())
    assert len(network.backbone.suppressed) == count


def test_a_segmenter_stands_on_it() -> None:
    settings = SegmenterSettings.model_validate({"backbone": {"name": "resnet38"}, "head": {"channels": 512}})
    with torch.device("meta"):
        network = build_segmenter(settings, ["cat", "dog"], Path())
        assert network(torch.zeros(1, 3, 33, 48)).shape == (1, 3, 5, 6)
    assert network.settings == settings


def test_a_weights_file_may_lack_counters_and_hold_a_classifier(tmp_path: Path) -> None:
    network = meta()
    small = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("tracked")}
    path = tmp_path / "resnet38.safetensors"
    save_file({name: torch.zeros(1) for name in [*small, "fc8.weight"]}, path)
    with pytest.raises(WeightsError) as error:
        load_weights(network, path, ignored=network.ignored_weights)
    lines = str(error.value).splitlines()[1:]
    assert "  conv1a.weight: 1 in the file, 64×3×3×3 in the network" in lines
    assert not [line for line in lines if "missing" in line or "fc8" in line]
