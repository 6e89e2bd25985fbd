from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from camshaft.engine.errors import RecipeError
from camshaft.engine.models import Classifier, ClassifierSettings, build_backbone, build_classifier
from camshaft.engine.models.efficientnet_lite import EfficientNetLite0Settings
from camshaft.engine.objectives.tags import pooled_scores

CLASSES = ("cat", "dog", "horse")
BACKBONE = {"name": "efficientnet_lite0", "weights": None}


def test_maps_are_at_the_stride_and_scores_are_their_means() -> None:
    torch.manual_seed(0)
    network = build_classifier(ClassifierSettings.model_validate({"backbone": BACKBONE}), CLASSES, Path())
    image = torch.randn(2, 3, 49, 64)
    maps = network(image)
    assert maps.shape == (2, 3, 4, 4)
    assert (maps < 0).any()
    assert network.classes == CLASSES
    assert network.stride == 16
    # A 1×1 convolution and a mean change places: the scores are a linear classifier of the pooled features.
    pooled_BK = network.backbone(image).mean((2, 3))
    torch.testing.assert_close(pooled_scores(maps), pooled_BK @ network.head.weight.flatten(1).T)


def test_scores_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, -6.0]], [[0.0, 0.0], [0.0, 4.0]]]])
    assert pooled_scores(maps).tolist() == [[0.0, 1.0]]


def test_dropout_leaves_out_whole_channels_in_training_only() -> None:
    backbone = build_backbone(EfficientNetLite0Settings(weights=None), Path())
    network = Classifier(backbone, CLASSES, dropout=0.5).train()
    features = torch.ones(1, 1280, 2, 2)
    dropped = network.dropout(features)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(dropped.amax((2, 3)), dropped.amin((2, 3)))
    assert torch.equal(network.eval().dropout(features), features)


def test_settings_are_those_that_it_was_built_from() -> None:
    settings = ClassifierSettings.model_validate(
        {
            "backbone": {**BACKBONE, "output_stride": 8, "freeze": ["stem"]},
            "dropout": 0.25,
            "suppression": {"layers": ["head"], "controller": "fixed", "delta": 0.7},
        }
    )
    assert build_classifier(settings, CLASSES, Path()).settings == settings


def test_suppression_of_an_unknown_layer_is_a_recipe_error() -> None:
    settings = ClassifierSettings.model_validate({"backbone": BACKBONE, "suppression": {"layers": ["stage8"]}})
    with pytest.raises(RecipeError, match=r"'stage8' matches nothing; the layers are stem, stage1"):
        build_classifier(settings, CLASSES, Path())


@pytest.mark.parametrize("name", ["vgg19", None])
def test_unknown_backbones_list_those_that_exist(name: str | None) -> None:
    with pytest.raises(ValidationError, match=r"efficientnet_lite0.*vgg16.*resnet50.*resnet101|discriminator"):
        ClassifierSettings.model_validate({"backbone": {} if name is None else {"name": name}})
