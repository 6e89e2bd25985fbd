"""AffinityNet: an embedding of every pixel of a grid, whose differences say how much two pixels belong together.

Ahn and Kwak, "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly Supervised Semantic
Segmentation", CVPR 2018, Section 3.2: features of three depths, each through a 1×1 convolution of its own (64, 128 and
256 channels), side by side through one more. The head is generic over the backbone: it takes any layers by name.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate

from camshaft.engine.data.batch import Normalization
from camshaft.engine.errors import RecipeError
from camshaft.engine.models.backbone import Backbone
from camshaft.engine.models.backbones import BackboneSettings, build_backbone
from camshaft.engine.models.convolution import Convolution
from camshaft.engine.models.parameters import mark_new
from camshaft.engine.recipe.settings import Settings

CHANNELS = (64, 128, 256)
"""Channels of the levels in AffinityNet, from the image upwards."""
GROUP = 8
"""Channels that group normalisation takes together."""
EMBEDDING_GAIN = 4
"""Gain of the last layer's first weights, in the public code: affinities then begin well below one."""
PROBE = 65
"""Side of the image on which the levels' channels and strides are found: whole strides plus one."""


class LevelSettings(Settings):
    """One of the layers on which the head stands."""

    layer: str
    """The backbone's own name of a layer, or of a module within it (such as b5.relu_branch2a), whose output it is."""
    channels: int = Field(ge=1)
    """Channels that it gets in the embedding."""


class AffinityNetSettings(Settings):
    """AffinityNet: a backbone and the layers of it that make the embedding."""

    backbone: BackboneSettings
    """The network below the head."""
    stride: Literal[4, 8, 16] = 8
    """Pixels of the image to a cell of the embedding, and so of the maps that walk on it; levels of a coarser stride
    are upsampled bilinearly."""
    levels: tuple[LevelSettings, ...] | None = Field(None, min_length=1)
    """null: three layers that the backbone suggests, with 64, 128 and 256 channels."""
    activation: Literal["elu", "relu"] = "elu"
    """After each of the head's convolutions."""
    group_norm: bool | None = None
    """Group normalisation, of 8 channels a group, after each level's convolution; null: where the backbone has no batch
    normalisation, which is VGG-16, as in the public code."""
    align_corners: bool = True
    """Features stand on every stride-th pixel from corner to corner, which goes with crops of whole strides plus one
    and with maps inferred so; false: features are areas side by side. Labels are read, and levels upsampled, so."""


class AffinityHead(nn.Module):
    """Levels (B, K_i, h_i, w_i) to the embedding (B, D, h, w), D the sum of the levels' channels."""

    def __init__(self, inputs: Sequence[int], levels: Sequence[LevelSettings], settings: AffinityNetSettings) -> None:
        """`inputs`: the channels K_i of the backbone's layers. Convolutions have no bias."""
        super().__init__()
        self._align_corners = settings.align_corners
        self.levels = nn.ModuleList(
            Convolution(count, level.channels, 1, bias=False) for count, level in zip(inputs, levels, strict=True)
        )
        self.norms = nn.ModuleList(
            nn.GroupNorm(level.channels // GROUP, level.channels) if settings.group_norm else nn.Identity()
            for level in levels
        )
        width = sum(level.channels for level in levels)
        self.embedding = Convolution(width, width, 1, bias=False)
        self.activation = nn.ELU() if settings.activation == "elu" else nn.ReLU()
        for convolution in self.levels:
            assert isinstance(convolution, Convolution)
            nn.init.kaiming_normal_(convolution.weight)
        nn.init.xavier_uniform_(self.embedding.weight, gain=EMBEDDING_GAIN)

    def forward(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """The embedding at `size`, (h, w)."""
        parts = []
        for feature, convolution, norm in zip(features, self.levels, self.norms, strict=True):
            part = self.activation(norm(convolution(feature)))
            if part.shape[2:] != size:
                part = interpolate(part, size, mode="bilinear", align_corners=self._align_corners)
            parts.append(part)
        embedding: Tensor = self.activation(self.embedding(torch.cat(parts, 1)))
        return embedding


class AffinityNet(nn.Module):
    """Embeddings f (B, D, h, w) of images (B, 3, H, W) normalised by `normalization`; h = ceil(H / stride).

    The affinity of two pixels is exp(-mean |f_p - f_q|): camshaft.kernels.walk has it.
    """

    def __init__(self, backbone: Backbone, classes: Sequence[str], settings: AffinityNetSettings) -> None:
        """Put a head on the layers that `settings` name. `classes`: those of the labels from which it learns.

        Raises:
            RecipeError: a layer does not exist or has a finer stride than the embedding; or none is named and the
                backbone suggests none; or group normalisation and a number of channels do not go together.
        """
        super().__init__()
        self.backbone = backbone
        self.classes = tuple(classes)
        self.settings = settings
        levels = _levels(backbone, settings)
        if settings.group_norm is None:
            normalised = any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
            settings = settings.model_copy(update={"group_norm": not normalised})
        for level in levels if settings.group_norm else ():
            if level.channels % GROUP:
                raise RecipeError(
                    f"levels: {level.layer} has {level.channels} channels; with group_norm a multiple of {GROUP}"
                )
        self._layers = tuple(level.layer for level in levels)
        self.head = mark_new(AffinityHead(_channels(backbone, levels, settings.stride), levels, settings))

    @property
    def stride(self) -> int:
        """Pixels of the image a cell of the embedding."""
        return self.settings.stride

    @property
    def normalization(self) -> Normalization:
        """The normalisation that the image must have."""
        return self.backbone.normalization

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to the embedding (B, D, ceil(H / stride), ceil(W / stride))."""
        features = outputs_of_layers(self.backbone, image, self._layers)
        height, width = (-(-side // self.stride) for side in image.shape[2:])
        embedding: Tensor = self.head(features, (height, width))
        return embedding


def outputs_of_layers(backbone: Backbone, image: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """Outputs of some of the backbone's layers or modules, in one pass: each (B, K, h, w) with its own K, h and w.

    Raises:
        RecipeError: one of them does not run on the way to the backbone's features.
    """
    found: dict[str, Tensor] = {}

    def keep(layer: str, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        found[layer] = output

    places = {layer: names[-1] for layer, names in backbone.layers().items()}
    hooks = [
        backbone.get_submodule(places.get(layer, layer)).register_forward_hook(partial(keep, layer)) for layer in layers
    ]
    try:
        backbone(image)
    finally:
        for hook in hooks:
            hook.remove()
    for layer in layers:
        if layer not in found:
            raise RecipeError(f"levels: {layer} does not run before the backbone's features are there; name another")
    return [found[layer] for layer in layers]


def build_affinity_net(
    settings: AffinityNetSettings, classes: Sequence[str], base: Path, *, pretrained: bool = True
) -> AffinityNet:
    """An AffinityNet with its backbone's pretrained weights, in inference mode.

    Args:
        settings: what to build.
        classes: the names of the C classes, without background, of the labels from which it learns.
        base: the folder from which a relative path of weights starts.
        pretrained: False leaves random weights, for a network whose weights are loaded afterwards.

    Raises:
        RecipeError: the settings name a layer that does not exist or does not fit.
        WeightsError: the weights are missing, unreadable or another network's.
    """
    return AffinityNet(build_backbone(settings.backbone, base, pretrained=pretrained), classes, settings).eval()


def _levels(backbone: Backbone, settings: AffinityNetSettings) -> tuple[LevelSettings, ...]:
    """The levels asked for, or the backbone's own."""
    if settings.levels is None:
        suggested = backbone.affinity_levels()
        if not suggested:
            raise RecipeError(
                f"levels: this {settings.backbone.name} suggests none; name some of {', '.join(backbone.layers())}"
            )
        return tuple(LevelSettings(layer=layer, channels=n) for layer, n in zip(suggested, CHANNELS, strict=True))
    known = {*backbone.layers(), *(name for name, _ in backbone.named_modules() if name)}
    for level in settings.levels:
        if level.layer not in known:
            raise RecipeError(f"levels: no layer {level.layer!r}; there are {', '.join(backbone.layers())}")
    return settings.levels


@torch.no_grad()
def _channels(backbone: Backbone, levels: Sequence[LevelSettings], stride: int) -> list[int]:
    """The channels of the backbone's layers, found on an empty image.

    Raises:
        RecipeError: a layer does not run, such as one behind the features of an imported network, or gives no feature
            maps; or its stride is finer than the embedding's.
    """
    image = next(backbone.parameters()).new_zeros(1, 3, PROBE, PROBE)
    features = outputs_of_layers(backbone, image, [level.layer for level in levels])
    for level, feature in zip(levels, features, strict=True):
        if not isinstance(feature, Tensor) or feature.ndim != 4:
            raise RecipeError(f"levels: {level.layer} gives no feature maps (B, K, h, w)")
        if feature.shape[2] > -(-PROBE // stride):
            finer = (PROBE - 1) // (feature.shape[2] - 1)
            raise RecipeError(f"levels: {level.layer} has stride {finer}, finer than the embedding's stride {stride}")
    return [feature.shape[1] for feature in features]
