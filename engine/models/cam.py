"""The classifier whose last feature maps are the class activation maps.

Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, in the form of Zhang et al.,
"Adversarial Complementary Learning", CVPR 2018: a 1×1 convolution with an output a class, then global average pooling.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field
from torch import Tensor, nn

from camshaft.engine.data.batch import Normalization
from camshaft.engine.models.backbone import Backbone
from camshaft.engine.models.backbones import BackboneSettings, build_backbone
from camshaft.engine.models.convolution import Convolution
from camshaft.engine.models.parameters import mark_new
from camshaft.engine.models.suppression import SuppressionSettings
from camshaft.engine.recipe.settings import Settings


class ClassifierSettings(Settings):
    """A classifier: a backbone, suppression if asked for, and the CAM head."""

    backbone: BackboneSettings
    """The network below the head."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the feature channels that each training image goes without."""
    suppression: SuppressionSettings | None = None
    """Discriminative region suppression in the backbone, or null for none."""


class Classifier(nn.Module):
    """Maps F (B, C, h, w) of an image (B, 3, H, W) normalised by `normalization`, one for each of `classes`.

    The maps are before ReLU and before any normalisation; the mean of each is its class's logit.
    """

    def __init__(self, backbone: Backbone, classes: Sequence[str], dropout: float = 0.0) -> None:
        """Put a head on `backbone`: without bias, initialised by Glorot and Bengio's rule, as OC-CSE's code has it.

        DRS's code has a bias there, and first weights N(0, √(2 / C)); its paper says neither.
        """
        super().__init__()
        self.backbone = backbone
        self.classes = tuple(classes)
        self.dropout = nn.Dropout2d(dropout)
        self.head = mark_new(Convolution(backbone.channels, len(self.classes), 1, bias=False))
        nn.init.xavier_uniform_(self.head.weight)

    @property
    def stride(self) -> int:
        """Pixels of the image a pixel of the maps."""
        return self.backbone.stride

    @property
    def normalization(self) -> Normalization:
        """The normalisation that the image must have."""
        return self.backbone.normalization

    @property
    def settings(self) -> ClassifierSettings:
        """The settings from which `build_classifier` makes this network."""
        return ClassifierSettings.model_validate(
            {
                "backbone": self.backbone.settings.model_dump(),
                "dropout": self.dropout.p,
                "suppression": self.backbone.suppression,
            }
        )

    def layers(self) -> Mapping[str, tuple[str, ...]]:
        """The backbone's layers: name of the layer to the names of its modules in this network."""
        return {layer: tuple(f"backbone.{name}" for name in names) for layer, names in self.backbone.layers().items()}

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to maps F (B, C, h, w)."""
        maps: Tensor = self.head(self.dropout(self.backbone(image)))
        return maps


def build_classifier(
    settings: ClassifierSettings, classes: Sequence[str], base: Path, *, pretrained: bool = True
) -> Classifier:
    """A classifier with its backbone's pretrained weights, in inference mode.

    Args:
        settings: what to build.
        classes: the names of the C classes, without background.
        base: the folder from which a relative path of weights starts.
        pretrained: False leaves random weights, for a network whose weights are loaded afterwards.

    Raises:
        RecipeError: the settings name a layer that does not exist.
        WeightsError: the weights are missing, unreadable or another network's.
    """
    backbone = build_backbone(settings.backbone, base, pretrained=pretrained)
    if settings.suppression is not None:
        backbone.plug(settings.suppression)
    return Classifier(backbone, classes, settings.dropout).eval()
