"""What every backbone is: an image in, features at a stride out, layers that go by name."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field
from torch import Tensor, nn

from camshaft.engine.data.batch import Normalization
from camshaft.engine.errors import RecipeError
from camshaft.engine.models.suppression import SuppressionSettings, plug_suppression, suppressions
from camshaft.engine.recipe.paths import RecipePath
from camshaft.engine.recipe.settings import Settings

IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""The normalisation of torchvision's ImageNet weights."""


class BackboneBase(Settings):
    """Settings that every backbone has."""

    weights: Annotated[str | None, RecipePath("imagenet")] = None
    """A file of pretrained weights (.pth, .pt or .safetensors; relative to the recipe), or null for none."""
    batch_norm: Literal["frozen", "train"] = "frozen"
    """frozen: statistics, scale and shift stay as loaded, also while training; train: all three learn, the statistics
    from the images that all ranks compute at the same time."""
    freeze: tuple[str, ...] = Field(default=(), examples=[["stem", "stage1"]])
    """Layers (by the backbone's own names for them) whose parameters do not learn."""


class Backbone(nn.Module, ABC):
    """A network from an image (B, 3, H, W), normalised by `normalization`, to features (B, channels, h, w).

    h = ceil(H / stride), w = ceil(W / stride).
    """

    ignored_weights: tuple[str, ...] = ()
    """Patterns of names that stand in ImageNet weight files and that this network leaves out on purpose."""

    settings: BackboneBase
    channels: int
    stride: int
    normalization: Normalization
    recomputable: bool = True
    """Whether it runs by blocks, which can be computed again in the backward pass (`recompute.run_block`)."""
    suppression: SuppressionSettings | None = None
    """What `plug` was called with."""
    suppressed: tuple[str, ...] = ()
    """Names of the suppression modules that `plug` left."""

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, channels, h, w)."""

    @abstractmethod
    def layers(self) -> Mapping[str, tuple[str, ...]]:
        """The network's layers from the image upwards: name of the layer to the names of its modules."""

    def affinity_levels(self) -> tuple[str, ...]:
        """The three layers or modules, from the image upwards, on whose outputs AffinityNet stands unless told."""
        return ()

    @property
    def stock(self) -> nn.Module:
        """The network in which layers and weights go by their usual names."""
        return self

    def train(self, mode: bool = True) -> Self:
        """Switch between training and inference; frozen normalisation and frozen layers stay in inference."""
        super().train(mode)
        if mode:
            if self.settings.batch_norm == "frozen":
                for module in self.modules():
                    if isinstance(module, nn.BatchNorm2d):
                        module.eval()
            for layer in self.settings.freeze:
                for name in self.layers()[layer]:
                    self.get_submodule(name).eval()
        return self

    def plug(self, settings: SuppressionSettings) -> None:
        """Plug discriminative region suppression into the layers that `settings` name, once.

        Raises:
            RecipeError: as `plug_suppression` says.
            ValueError: suppression is plugged in already.
        """
        if self.suppression is not None:
            raise ValueError("suppression is plugged into this backbone already")
        plug_suppression(
            self.stock, settings.layers, settings.controller, settings.delta, settings.mode, run=self.forward
        )
        self.suppression = settings
        self.suppressed = suppressions(self)

    def apply_freezing(self) -> None:
        """Mark the parameters that do not learn, as the settings say; call it once all modules are there.

        Raises:
            RecipeError: the settings freeze a layer that does not exist.
        """
        layers = self.layers()
        for layer in self.settings.freeze:
            if layer not in layers:
                raise RecipeError(f"backbone.freeze: no layer {layer!r}; there are {', '.join(layers)}")
            for name in layers[layer]:
                self.get_submodule(name).requires_grad_(False)
        if self.settings.batch_norm == "frozen":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.requires_grad_(False)
        self.train(self.training)
