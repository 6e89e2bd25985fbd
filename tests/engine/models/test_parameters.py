from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from camshaft.engine.models import (
    Classifier,
    ClassifierSettings,
    MultiplierSettings,
    build_classifier,
    parameter_groups,
)
from camshaft.engine.models.parameters import ParameterGroup, mark_new, new_names


def classifier(backbone: dict[str, Any], **settings: Any) -> Classifier:
    parsed = ClassifierSettings.model_validate({"backbone": {"weights": None, **backbone}, **settings})
    with torch.device("meta"):
        return build_classifier(parsed, ["cat", "dog"], Path())


def names_by_group(network: nn.Module, groups: list[ParameterGroup]) -> dict[str, set[str]]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {group["name"]: {names[id(parameter)] for parameter in group["params"]} for group in groups}


@pytest.mark.parametrize(
    "backbone",
    [
        {"name": "vgg16"},
        {"name": "resnet50", "batch_norm": "train"},
        {"name": "resnet50", "batch_norm": "frozen", "freeze": ["stem", "layer1"]},
        {"name": "efficientnet_lite0", "batch_norm": "train", "freeze": ["stage1"]},
    ],
)
@pytest.mark.parametrize("suppression", [None, {"layers": ["*"]}])
def test_every_parameter_that_learns_is_in_exactly_one_group(
    backbone: dict[str, Any], suppression: dict[str, Any] | None
) -> None:
    network = classifier(backbone, suppression=suppression)
    learning = sorted(id(parameter) for parameter in network.parameters() if parameter.requires_grad)
    for decay in (True, False):
        groups = parameter_groups(network, MultiplierSettings(decay_biases=decay, decay_norms=decay))
        assert sorted(id(parameter) for group in groups for parameter in group["params"]) == learning
        assert all(group["params"] for group in groups)


def test_vgg_s_groups_are_those_of_drs() -> None:
    network = classifier({"name": "vgg16"}, suppression={"layers": ["layer6"]})
    groups = parameter_groups(network, MultiplierSettings())
    assert {group["name"]: group["lr_scale"] for group in groups} == {
        "pretrained weights": 1,
        "pretrained biases": 2,
        "new weights": 10,
        "new biases": 20,
    }
    assert {group["weight_decay_scale"] for group in groups} == {1.0}
    named = names_by_group(network, groups)
    assert named["new weights"] == {
        "head.weight",
        *(f"backbone.extra.{index}.weight" for index in (0, 2, 4)),
        *(f"backbone.extra.{index}.controller.weight" for index in (1, 3, 5)),
    }
    assert named["new biases"] == {f"backbone.extra.{index}.bias" for index in (0, 2, 4)}
    assert len(named["pretrained weights"]) == len(named["pretrained biases"]) == 13


def test_biases_and_normalisation_can_go_without_decay() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), mark_new(nn.Linear(1, 1)))
    settings = MultiplierSettings(decay_biases=False, decay_norms=False, pretrained_weights=0.5)
    groups = parameter_groups(network, settings)
    assert names_by_group(network, groups) == {
        "pretrained weights": {"0.weight"},
        "pretrained biases, no decay": {"0.bias", "1.bias"},
        "pretrained weights, no decay": {"1.weight"},
        "new weights": {"2.weight"},
        "new biases, no decay": {"2.bias"},
    }
    scales = {group["name"]: (group["lr_scale"], group["weight_decay_scale"]) for group in groups}
    assert scales["pretrained weights, no decay"] == (0.5, 0.0)
    assert scales["new weights"] == (10.0, 1.0)


def test_normalisation_decays_where_only_biases_are_exempt() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    groups = parameter_groups(network, MultiplierSettings(decay_biases=False))
    assert names_by_group(network, groups)["pretrained biases, no decay"] == {"0.bias"}


def test_names_of_new_modules_reach_into_them() -> None:
    norm = nn.BatchNorm1d(1)
    network = nn.Sequential(nn.Linear(1, 1), mark_new(nn.Sequential(norm)))
    assert new_names(network) == {f"1.0.{name}" for name in norm.state_dict()}
