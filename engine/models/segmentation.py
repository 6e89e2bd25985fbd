"""Segmentation networks: a backbone and a head that gives logits for background and each class.

Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs", ICLR 2015 (LargeFOV);
"DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully Connected CRFs",
TPAMI 2017 (ASPP).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from camshaft.engine.data.batch import Normalization
from camshaft.engine.models.backbone import Backbone
from camshaft.engine.models.backbones import BackboneSettings, build_backbone
from camshaft.engine.models.convolution import Convolution
from camshaft.engine.models.parameters import mark_new
from camshaft.engine.recipe.settings import Settings

HEAD_STD = 0.01


class LargeFOVSettings(Settings):
    """DeepLab-LargeFOV's head."""

    name: Literal["largefov"] = "largefov"
    channels: int = Field(default=1024, ge=1)
    """Channels of the two hidden layers."""
    dilation: int = Field(default=12, ge=1)
    """Dilation of the 3×3 convolution, in pixels of the feature map: 12 at output stride 8 sees as far as 6 at 16."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of the values that training leaves out after each hidden layer."""


class ASPPSettings(Settings):
    """DeepLab-v2's head, atrous spatial pyramid pooling."""

    name: Literal["aspp"]
    dilations: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(6, 12, 18, 24), min_length=1)
    """Dilations of the 3×3 convolutions side by side, in pixels of the feature map; DeepLab's, at output stride 8."""


def _largefov_without_a_name(value: Any) -> Any:
    return {"name": "largefov", **value} if isinstance(value, Mapping) else value


HeadSettings = Annotated[
    LargeFOVSettings | ASPPSettings, Field(discriminator="name"), BeforeValidator(_largefov_without_a_name)
]


class SegmenterSettings(Settings):
    """A segmentation network: a backbone and a head."""

    backbone: BackboneSettings
    """The network below the head."""
    head: HeadSettings = LargeFOVSettings()
    """The head."""


class LargeFOV(nn.Module):
    """A dilated 3×3 convolution (fc6) and two 1×1 (fc7, fc8): features (B, K, h, w) to logits (B, outputs, h, w)."""

    def __init__(self, inputs: int, outputs: int, settings: LargeFOVSettings) -> None:
        """Weights are N(0, 0.01), biases 0."""
        super().__init__()
        self.settings = settings
        self.fc6 = Convolution(inputs, settings.channels, 3, dilation=settings.dilation)
        self.act6 = nn.ReLU(inplace=True)
        self.dropout6 = nn.Dropout(settings.dropout)
        self.fc7 = Convolution(settings.channels, settings.channels, 1)
        self.act7 = nn.ReLU(inplace=True)
        self.dropout7 = nn.Dropout(settings.dropout)
        self.fc8 = Convolution(settings.channels, outputs, 1)
        _initialise(self.fc6, self.fc7, self.fc8)

    def forward(self, features: Tensor) -> Tensor:
        """(B, K, h, w) to (B, outputs, h, w)."""
        x = self.dropout6(self.act6(self.fc6(features)))
        logits: Tensor = self.fc8(self.dropout7(self.act7(self.fc7(x))))
        return logits


class ASPP(nn.Module):
    """Dilated 3×3 convolutions side by side, summed: features (B, K, h, w) to logits (B, outputs, h, w)."""

    def __init__(self, inputs: int, outputs: int, settings: ASPPSettings) -> None:
        """Weights are N(0, 0.01), biases 0."""
        super().__init__()
        self.settings = settings
        branches = [Convolution(inputs, outputs, 3, dilation=dilation) for dilation in settings.dilations]
        _initialise(*branches)
        self.branches = nn.ModuleList(branches)

    def forward(self, features: Tensor) -> Tensor:
        """(B, K, h, w) to (B, outputs, h, w)."""
        return torch.stack([branch(features) for branch in self.branches]).sum(0)


def _initialise(*layers: Convolution) -> None:
    for layer in layers:
        assert layer.bias is not None
        nn.init.normal_(layer.weight, std=HEAD_STD)
        nn.init.zeros_(layer.bias)


class Segmenter(nn.Module):
    """Logits (B, C + 1, h, w) of an image (B, 3, H, W) normalised by `normalization`; channel 0 is background."""

    def __init__(self, backbone: Backbone, head: LargeFOV | ASPP, classes: Sequence[str]) -> None:
        """`head` takes the backbone's features and has an output more than `classes` has names."""
        super().__init__()
        self.backbone = backbone
        self.head = mark_new(head)
        self.classes = tuple(classes)

    @property
    def stride(self) -> int:
        """Pixels of the image a pixel of the logits."""
        return self.backbone.stride

    @property
    def normalization(self) -> Normalization:
        """The normalisation that the image must have."""
        return self.backbone.normalization

    @property
    def settings(self) -> SegmenterSettings:
        """The settings from which `build_segmenter` makes this network."""
        return SegmenterSettings.model_validate(
            {"backbone": self.backbone.settings.model_dump(), "head": self.head.settings.model_dump()}
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to logits (B, C + 1, h, w)."""
        logits: Tensor = self.head(self.backbone(image))
        return logits


def build_segmenter(
    settings: SegmenterSettings, classes: Sequence[str], base: Path, *, pretrained: bool = True
) -> Segmenter:
    """A segmentation network with its backbone's pretrained weights, in inference mode.

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
    inputs, outputs = backbone.channels, len(classes) + 1
    head: LargeFOV | ASPP
    if isinstance(settings.head, ASPPSettings):
        head = ASPP(inputs, outputs, settings.head)
    else:
        head = LargeFOV(inputs, outputs, settings.head)
    return Segmenter(backbone, head, classes).eval()
