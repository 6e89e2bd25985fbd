"""All backbones by name: their settings as one type, and how one is built from them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, assert_never, get_args

from pydantic import Discriminator, Field, Tag

from camshaft.engine.models.backbone import Backbone
from camshaft.engine.models.efficientnet_lite import EfficientNetLite0, EfficientNetLite0Settings
from camshaft.engine.models.imported import ImportedBackbone, ImportedBackboneSettings
from camshaft.engine.models.resnet import ResNet, ResNet50Settings, ResNet101Settings
from camshaft.engine.models.resnet38 import ResNet38, ResNet38Settings
from camshaft.engine.models.vgg import VGG16, VGG16Settings
from camshaft.engine.models.weights import load_weights, weights_file

_Own = EfficientNetLite0Settings | VGG16Settings | ResNet38Settings | ResNet50Settings | ResNet101Settings

_OWN_TAG, _IMPORTED_TAG = "own", "imported"


def _tag(value: Any) -> str:
    """Which of the two kinds of settings `value` is: an import path has a colon."""
    name = value.get("name") if isinstance(value, Mapping) else getattr(value, "name", None)
    return _IMPORTED_TAG if isinstance(name, str) and ":" in name else _OWN_TAG


BackboneSettings = Annotated[
    Annotated[_Own, Field(discriminator="name"), Tag(_OWN_TAG)]
    | Annotated[ImportedBackboneSettings, Tag(_IMPORTED_TAG)],
    Discriminator(_tag),
]

_OWN: Mapping[str, type[_Own]] = {kind.model_fields["name"].default: kind for kind in get_args(_Own)}


def backbone_names() -> tuple[str, ...]:
    """The names of the backbones that camshaft has itself."""
    return tuple(_OWN)


def default_backbone(name: str) -> Backbone:
    """One of `backbone_names` with its default settings and random weights."""
    return _new_backbone(_OWN[name](weights=None), Path()).eval()


def build_backbone(settings: BackboneSettings, base: Path, *, pretrained: bool = True) -> Backbone:
    """A backbone with its pretrained weights, in inference mode.

    Args:
        settings: which backbone, and how.
        base: the folder from which a relative path of weights starts, and from which no code is imported.
        pretrained: False leaves the random weights, for a network whose weights are loaded afterwards.

    Raises:
        RecipeError: the settings name a layer that does not exist, or an import path that leads to no backbone.
        WeightsError: the weights are missing, unreadable or another network's.
    """
    backbone = _new_backbone(settings, base)
    if pretrained and settings.weights is not None:
        path = weights_file(settings.weights, settings.name, base)
        load_weights(backbone.stock, path, ignored=backbone.ignored_weights)
    return backbone.eval()


def _new_backbone(settings: BackboneSettings, base: Path) -> Backbone:
    match settings:
        case EfficientNetLite0Settings():
            return EfficientNetLite0(settings)
        case VGG16Settings():
            return VGG16(settings)
        case ImportedBackboneSettings():
            return ImportedBackbone(settings, base)
        case ResNet38Settings():
            return ResNet38(settings)
        case ResNet50Settings() | ResNet101Settings():
            return ResNet(settings)
        case _:
            assert_never(settings)
