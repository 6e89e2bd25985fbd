"""AffinityNet: on which layers it stands, how its head begins, and that any backbone with levels carries it."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import elu, interpolate

from camshaft.engine.errors import RecipeError
from camshaft.engine.models import (
    AffinityNet,
    AffinityNetSettings,
    build_affinity_net,
    load_network,
    save_network,
)
from camshaft.engine.models.parameters import new_names

Randomised = Callable[[nn.Module], nn.Module]
LITE: dict[str, Any] = {"name": "efficientnet_lite0", "weights": None, "head": False}
SMALL = [{"layer": "stage3", "channels": 8}, {"layer": "stage5", "channels": 16}, {"layer": "stage7", "channels": 24}]


def network_of(backbone: dict[str, Any], **settings: Any) -> AffinityNet:
    torch.manual_seed(0)
    parsed = AffinityNetSettings.model_validate({"backbone": backbone, **settings})
    return build_affinity_net(parsed, ("cat", "dog"), Path(), pretrained=False)


@pytest.mark.parametrize(
    ("backbone", "inputs", "normalised"),
    [
        ({"name": "vgg16"}, (512, 512, 512), True),
        ({"name": "resnet50", "output_stride": 8}, (512, 1024, 2048), False),
        ({"name": "resnet38"}, (512, 1024, 4096), False),
        (LITE, (40, 112, 320), False),
        ({**LITE, "head": True}, (40, 112, 1280), False),
    ],
)
def test_backbones_suggest_three_levels(backbone: dict[str, Any], inputs: tuple[int, ...], normalised: bool) -> None:
    with torch.device("meta"):
        network = network_of(backbone)
    shapes = [tuple(level.weight.shape[:2]) for level in network.head.levels]  # type: ignore[union-attr,index]
    assert shapes == list(zip((64, 128, 256), inputs, strict=True))
    assert network.head.embedding.weight.shape == (448, 448, 1, 1)
    groups = [norm.num_groups if isinstance(norm, nn.GroupNorm) else None for norm in network.head.norms]
    assert groups == ([8, 16, 32] if normalised else [None] * 3)
    assert network(torch.empty(2, 3, 66, 97, device="meta")).shape == (2, 448, 9, 13)
    assert {name for name, _ in network.named_parameters() if name.startswith("head.")} <= new_names(network)


def test_the_embedding_is_made_of_the_layers_outputs(randomised: Randomised) -> None:
    network = network_of({**LITE, "output_stride": 16}, levels=SMALL)
    randomised(network)
    image = torch.randn(1, 3, 65, 81)
    with torch.no_grad():
        backbone = network.backbone
        x = backbone.stem_act(backbone._bn0(backbone._conv_stem(image)))
        levels = []
        for number, block in enumerate(backbone._blocks):  # type: ignore[arg-type]
            x = block(x)
            if number in (4, 10, 15):  # the last blocks of stages 3, 5 and 7
                levels.append(x)
        assert [level.shape[2:] for level in levels] == [(9, 11), (5, 6), (5, 6)]
        parts = [elu(conv(level)) for conv, level in zip(network.head.levels, levels, strict=True)]
        parts[1:] = [interpolate(part, (9, 11), mode="bilinear", align_corners=True) for part in parts[1:]]
        expected = elu(network.head.embedding(torch.cat(parts, 1)))
        torch.testing.assert_close(network(image), expected, rtol=1e-5, atol=1e-6)


def test_a_level_may_be_a_module_within_a_layer() -> None:
    with torch.device("meta"):
        network = network_of(LITE, levels=[{"layer": "_blocks.5.expand_act", "channels": 8}])
    assert network.head.levels[0].weight.shape == (8, 240, 1, 1)  # type: ignore[union-attr]


def test_first_weights_are_those_of_the_public_code() -> None:
    head = network_of(LITE).head
    for level, inputs in zip(head.levels, (40, 112, 320), strict=True):
        assert level.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.05)
    bound = 4 * (6 / (448 + 448)) ** 0.5
    assert head.embedding.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert all(parameter.ndim == 4 for parameter in head.parameters())


def test_gradients_reach_every_layer_and_copies_work_alone() -> None:
    network = network_of(LITE, levels=SMALL).train()
    twin = copy.deepcopy(network)
    for one in (network, twin):
        one(torch.randn(2, 3, 33, 33)).square().mean().backward()
        learning = [name for name, value in one.named_parameters() if value.requires_grad]
        assert [name for name in learning if one.get_parameter(name).grad is None] == []
        assert not any(module._forward_hooks for module in one.modules())


@pytest.mark.parametrize(
    ("backbone", "settings", "message"),
    [
        (LITE, {"levels": [{"layer": "stage9", "channels": 8}]}, r"levels: no layer 'stage9'; there are stem, stage1"),
        (LITE, {"levels": [{"layer": "stage2", "channels": 8}]}, r"stage2 has stride 4, finer than .* stride 8"),
        (LITE, {"stride": 16}, r"levels: stage3 has stride 8, finer than the embedding's stride 16"),
        ({"name": "vgg16", "form": "largefov"}, {}, r"levels: this vgg16 suggests none; name some of layer1, layer2"),
        (LITE, {"group_norm": True, "levels": [{"layer": "stage3", "channels": 12}]}, "a multiple of 8"),
    ],
)
def test_levels_that_do_not_fit_are_named(backbone: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(RecipeError, match=message):
        network_of(backbone, **settings)


def test_a_network_comes_back_from_its_file_alone(tmp_path: Path, randomised: Randomised) -> None:
    saved = network_of({**LITE, "output_stride": 8}, levels=SMALL, group_norm=True, activation="relu", stride=4)
    randomised(saved)
    save_network(tmp_path / "network.safetensors", saved)
    loaded = load_network(tmp_path / "network.safetensors")
    assert isinstance(loaded, AffinityNet)
    assert loaded.settings == saved.settings
    assert loaded.classes == ("cat", "dog")
    image = torch.randn(1, 3, 40, 48)
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), saved(image), rtol=1e-5, atol=1e-6)
