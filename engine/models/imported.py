"""Any torch.nn.Module of an installed package as a backbone, by import path."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, JsonValue, model_validator
from torch import Tensor, nn
from torch.nn import functional

from camshaft.engine.data.batch import Normalization
from camshaft.engine.errors import CamshaftError, RecipeError
from camshaft.engine.models.backbone import IMAGENET, Backbone, BackboneBase
from camshaft.engine.runtime.packages import IMPORT_PATH, import_installed, versions_of

PRETRAINED = ("pretrained", "weights", "weights_backbone", "checkpoint_path")
"""Arguments by which factories of torchvision and timm load weights themselves."""
PROBE = (96, 128)
"""Height and width of the image on which stride and channels are found."""
ODD_PROBE = (97, 129)


class ImportedBackboneSettings(BackboneBase):
    """A torch.nn.Module of an installed package. The package's code is run: name only packages that you trust."""

    name: str = Field(pattern=IMPORT_PATH, examples=["timm:create_model", "torchvision.models:resnet34"])
    """package.module:factory, a class or function that returns a torch.nn.Module."""
    arguments: dict[str, JsonValue] = Field(default={}, examples=[{"model_name": "resnet34"}])
    """What the factory is called with. It loads no weights: `weights` does, so that the run checks and records them."""
    features: str | None = Field(default=None, examples=["layer4"])
    """The module whose output are the features, by its name in the network; what comes behind it is not run. null: the
    network's own output."""
    normalization: Normalization = IMAGENET
    """Mean and standard deviation of the images that its weights learnt from."""

    @model_validator(mode="after")
    def _weights_come_from_a_file(self) -> Self:
        for name in PRETRAINED:
            if self.arguments.get(name) not in (None, False, ""):
                raise ValueError(f"arguments: {name} would load weights unseen; give their file as weights instead")
        return self

    def packages(self) -> tuple[str, ...]:
        """The installed distributions that the network comes from, as "name version"."""
        return versions_of(self.name.partition(":")[0].partition(".")[0])


class _ReachedError(Exception):
    """The features are there; nothing behind them need run."""

    def __init__(self, output: object) -> None:
        super().__init__()
        self.output = output


class ImportedBackbone(Backbone):
    """A foreign network, which keeps its own names: those of its weights, and of its layers in settings.

    Stride and channels are found by running it. Parameters without part in the features do not learn. Where it would
    round sides down, images are padded by zeros on the lower right to whole strides.
    """

    settings: ImportedBackboneSettings
    recomputable = False

    def __init__(self, settings: ImportedBackboneSettings, base: Path) -> None:
        """Build the network with its first weights, on the CPU; `base` is the recipe's folder.

        Raises:
            RecipeError: there is no such factory; it fails or gives no module; the module gives no feature maps.
        """
        super().__init__()
        self.settings = settings
        self.normalization = settings.normalization
        self._pads = False
        with torch.device("cpu"):  # modules that compute while they are built can't do without values
            self.network = self._made(base).eval()
            self._measure()
        self.apply_freezing()

    @property
    def stock(self) -> nn.Module:
        """The foreign network."""
        return self.network

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, channels, ceil(H / stride), ceil(W / stride))."""
        if self._pads:
            height, width = image.shape[2:]
            image = functional.pad(image, (0, -width % self.stride, 0, -height % self.stride))
        features = self._run(image)
        assert isinstance(features, Tensor)
        return features

    def layers(self) -> Mapping[str, tuple[str, ...]]:
        """Every module by its own name in the network."""
        return {name: (f"network.{name}",) for name, _ in self.network.named_modules() if name}

    def _made(self, base: Path) -> nn.Module:
        try:
            factory = import_installed(self.settings.name, base)
        except RecipeError as error:
            raise RecipeError(f"backbone.name: {error}") from None
        with self._foreign("it"):
            network = factory(**self.settings.arguments)
        if not isinstance(network, nn.Module):
            raise RecipeError(f"backbone.name: {self.settings.name} gives a {type(network).__name__}, no nn.Module")
        return network

    def _run(self, image: Tensor) -> object:
        """The network's output, or that of the layer that gives the features."""
        if self.settings.features is None:
            output: object = self.network(image)
            return output
        # Not once and for all: suppression may take the layer's place, or come behind it.
        hook = self.network.get_submodule(self.settings.features).register_forward_hook(_stop)
        try:
            self.network(image)
        except _ReachedError as reached:
            return reached.output
        finally:
            hook.remove()
        raise RecipeError(f"backbone.features: {self.settings.features} does not run; {self._layers_with_maps()}")

    def _measure(self) -> None:
        """Find channels and stride, whether images need padding, and what has part in the features."""
        if self.settings.features not in (None, *self.layers()):
            raise RecipeError(f"backbone.features: no layer {self.settings.features!r}; {self._layers_with_maps()}")
        with torch.enable_grad():
            features = self._tried(PROBE)
            self._still_those_without_part(features)
        _, self.channels, height, width = features.shape
        self.stride = PROBE[0] // max(height, 1)
        if (height * self.stride, width * self.stride) != PROBE:
            raise RecipeError(
                f"backbone: {self.settings.name} makes {height}×{width} features of an image of {PROBE[0]}×{PROBE[1]}, "
                "which is no whole stride"
            )
        wanted = tuple(math.ceil(side / self.stride) for side in ODD_PROBE)
        with torch.no_grad():
            try:
                self._pads = tuple(self._tried(ODD_PROBE).shape[2:]) != wanted
            except RecipeError:  # some networks take whole strides only
                self._pads = True
            found = tuple(self._tried(ODD_PROBE).shape[2:])
        if found != wanted:
            raise RecipeError(
                f"backbone: {self.settings.name} makes {found[0]}×{found[1]} features of an image of "
                f"{ODD_PROBE[0]}×{ODD_PROBE[1]} at stride {self.stride}, not {wanted[0]}×{wanted[1]}"
            )

    def _tried(self, size: tuple[int, int]) -> Tensor:
        """Features of an empty image."""
        image = torch.zeros(1, 3, *size)
        if self._pads:
            image = functional.pad(image, (0, -size[1] % self.stride, 0, -size[0] % self.stride))
        with self._foreign(f"its network, on an image of {size[0]}×{size[1]},"):
            features = self._run(image)
        if not isinstance(features, Tensor) or features.ndim != 4:
            shape = tuple(features.shape) if isinstance(features, Tensor) else f"a {type(features).__name__}"
            what = "the network" if self.settings.features is None else self.settings.features
            raise RecipeError(
                f"backbone.features: {what} gives {shape}, not feature maps (B, K, h, w); {self._layers_with_maps()}"
            )
        return features

    def _still_those_without_part(self, features: Tensor) -> None:
        learning = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        if not (learning and features.requires_grad):
            return
        for parameter, gradient in zip(
            learning, torch.autograd.grad(features.sum(), learning, allow_unused=True), strict=True
        ):
            parameter.requires_grad_(gradient is not None)

    def _layers_with_maps(self) -> str:
        """The layers that give feature maps, down to the second level of names."""
        found: list[str] = []
        hooks = [
            module.register_forward_hook(
                lambda _module, _inputs, output, name=name: (
                    found.append(name) if isinstance(output, Tensor) and output.ndim == 4 else None
                )
            )
            for name, module in self.network.named_modules()
            if name and name.count(".") < 2
        ]
        with torch.no_grad(), suppress(Exception):  # what ran before a failure is told all the same
            self.network(torch.zeros(1, 3, *PROBE))
        for hook in hooks:
            hook.remove()
        return f"feature maps come from {', '.join(dict.fromkeys(found)) or 'no layer'}"

    @contextmanager
    def _foreign(self, what: str) -> Iterator[None]:
        """Turn whatever foreign code raises into a user's error."""
        try:
            yield
        except CamshaftError:
            raise
        except Exception as error:  # foreign code may raise anything
            line = next(iter(str(error).splitlines()), "")
            raise RecipeError(
                f"backbone: {self.settings.name}: {what} fails: {type(error).__name__}: {line}"
            ) from error


def _stop(_module: nn.Module, _inputs: Any, output: object) -> None:
    raise _ReachedError(output)
