"""All backbones by name: their settings as one type, and how one is built from them."""

from pathlib import Path
from typing import Annotated, assert_never

from pydantic import Field

from camshaft.engine.models.backbone import Backbone
from camshaft.engine.models.efficientnet_lite import EfficientNetLite0, EfficientNetLite0Settings
from camshaft.engine.models.resnet import ResNet, ResNet50Settings, ResNet101Settings
from camshaft.engine.models.vgg import VGG16, VGG16Settings
from camshaft.engine.models.weights import load_weights, weights_file

BackboneSettings = Annotated[
    EfficientNetLite0Settings | VGG16Settings | ResNet50Settings | ResNet101Settings, Field(discriminator="name")
]


def build_backbone(settings: BackboneSettings, base: Path, *, pretrained: bool = True) -> Backbone:
    """A backbone with its pretrained weights, in inference mode.

    Args:
        settings: which backbone, and how.
        base: the folder from which a relative path of weights starts.
        pretrained: False leaves the random weights, for a network whose weights are loaded afterwards.

    Raises:
        RecipeError: the settings name a layer that does not exist.
        WeightsError: the weights are missing, unreadable or another network's.
    """
    backbone = _new_backbone(settings)
    if pretrained and settings.weights is not None:
        path = weights_file(settings.weights, settings.name, base)
        load_weights(backbone, path, ignored=backbone.ignored_weights)
    return backbone.eval()


def _new_backbone(settings: BackboneSettings) -> Backbone:
    match settings:
        case EfficientNetLite0Settings():
            return EfficientNetLite0(settings)
        case VGG16Settings():
            return VGG16(settings)
        case ResNet50Settings() | ResNet101Settings():
            return ResNet(settings)
        case _:
            assert_never(settings)
