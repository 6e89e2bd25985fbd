"""Discriminative region suppression (DRS) in any network: one call, by the names of its layers.

Kim, Han and Kim, "Discriminative Region Suppression for Weakly-Supervised Semantic Segmentation", AAAI 2021.

Two places are possible. "replace" takes an activation's place: min(act(x), G · max act(x)), which is Algorithm 1 where
act is ReLU. "follow" leaves the module as it is and suppresses what comes out of it, whatever the module: an
activation, a block, a linear bottleneck. Values below zero, where an activation or a layer has them, pass unchanged:
only what activates can be discriminative, and the bound is never below zero.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, Self, runtime_checkable

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from camshaft.engine.errors import RecipeError
from camshaft.engine.models.parameters import mark_new
from camshaft.engine.recipe.settings import Settings
from camshaft.kernels.suppress import suppress, suppress_with_controller

CONTROLLER_STD = 0.01
DELTA = 0.55
"""δ where none is given: the best of the paper's Table 1."""

NON_NEGATIVE = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus)
"""Activations without negative outputs."""
ACTIVATIONS = (
    *NON_NEGATIVE,
    nn.SiLU,
    nn.GELU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.LeakyReLU,
    nn.Hardswish,
    nn.Mish,
    nn.Tanh,
)
"""Activations that suppression can replace; all are without parameters."""

ControllerName = Literal["learnable", "fixed"]
ModeName = Literal["replace", "follow"]


class SuppressionSettings(Settings):
    """Which layers are suppressed, and by how much."""

    layers: tuple[str, ...] = Field(default=("*",), min_length=1, examples=[["layer5", "layer6"]])
    """The backbone's layers, or names of modules within them; * stands for any characters but a dot."""
    controller: ControllerName = "learnable"
    """learnable: each image decides by how much; fixed: the bound is delta of the maximum."""
    delta: float = Field(default=DELTA, gt=0, le=1)
    """The fixed controller's δ: 1 suppresses nothing, less suppresses more."""
    mode: ModeName = "replace"
    """replace the layers' activations, or follow them (or any modules, given by name)."""

    @model_validator(mode="after")
    def _delta_has_an_effect(self) -> Self:
        # A delta that is the default says nothing: a recipe written out in full states it beside the controller.
        if self.controller == "learnable" and self.delta != DELTA:
            raise ValueError(_idle_delta(self.delta))
        return self


def _idle_delta(delta: float) -> str:
    return f"delta: {delta} has no effect with controller: learnable, which finds its own; set controller: fixed"


class Suppression(nn.Module):
    """y = min(x, G · max_HW x) where x > 0, y = x elsewhere; of the activation's output where it has one."""

    def __init__(
        self,
        channels: int,
        controller: ControllerName,
        delta: float,
        *,
        activation: nn.Module | None = None,
        rectifies: bool = False,
    ) -> None:
        """Build one module.

        Args:
            channels: K.
            controller: "learnable" or "fixed".
            delta: δ of the fixed controller.
            activation: comes first.
            rectifies: x below zero becomes zero, so that the module is a ReLU too.
        """
        super().__init__()
        self.activation = activation
        self.delta = delta
        self.rectifies = rectifies
        self.controller: nn.Linear | None = None
        if controller == "learnable":
            self.controller = mark_new(nn.Linear(channels, channels, bias=False))
            nn.init.normal_(self.controller.weight, std=CONTROLLER_STD)

    def forward(self, x: Tensor) -> Tensor:
        """(B, K, H, W) to the same shape and dtype."""
        if self.activation is not None:
            x = self.activation(x)
        y = self._suppressed(x)
        return y if self.rectifies else y + x.clamp(max=0)

    def _suppressed(self, x: Tensor) -> Tensor:
        """What is above zero of x, suppressed; zero elsewhere."""
        if self.controller is None:
            return suppress(x, self.delta)
        return suppress_with_controller(x, self.controller.weight)

    def extra_repr(self) -> str:
        """δ, or that it is learnt."""
        return "learnable" if self.controller is not None else f"delta={self.delta}"


@runtime_checkable
class Layered(Protocol):
    """A network whose layers go by name."""

    def layers(self) -> Mapping[str, tuple[str, ...]]:
        """The layers from the image upwards: name of the layer to the names of its modules."""
        ...


class _Place(NamedTuple):
    """Where a suppression goes: in place of, or behind, the module `name`."""

    name: str
    module: nn.Module


def plug_suppression(
    network: nn.Module,
    layers: Sequence[str] = ("*",),
    controller: ControllerName = "learnable",
    delta: float = DELTA,
    mode: ModeName = "replace",
    *,
    example: Tensor | None = None,
    run: Callable[[Tensor], object] | None = None,
) -> tuple[str, ...]:
    """Suppress discriminative regions in `network`'s layers; the names in its state dict stay, controllers' are added.

    Args:
        network: any module; it is changed. It is run once before and once after, in inference mode and without
            gradients, to learn the channels of its layers and to see that every suppression takes part.
        layers: what to suppress. Each is a layer of `network.layers()` (name → names of modules) where the network has
            that method, which stands for all activations in it; or the name of a module as in `named_modules()`, which
            stands for the activations in it ("replace") or its output ("follow"). * stands for any characters but
            a dot.
        controller: "learnable" or "fixed".
        delta: δ of the fixed controller, in (0, 1].
        mode: "replace" or "follow".
        example: an input for the runs; (1, 3, 64, 64) zeros by default.
        run: how to run `network` on `example`, where that is not by calling it.

    Returns:
        The names of the suppressed modules, in the network's order.

    Raises:
        RecipeError: δ is outside (0, 1], or given with a learnable controller; a name matches nothing; a module has
            nothing to replace, never runs, gives anything but feature maps, or runs on several numbers of channels.
    """
    if controller == "fixed" and not 0 < delta <= 1:
        raise RecipeError(f"suppression.delta: {delta} is outside (0, 1]; 1 suppresses nothing, less suppresses more")
    if controller == "learnable" and delta != DELTA:
        raise RecipeError(f"suppression.{_idle_delta(delta)}")
    like = next(network.parameters(), torch.empty(0))
    if example is None:
        example = torch.zeros(1, 3, 64, 64, device=like.device, dtype=like.dtype)
    settings = SuppressionSettings(layers=tuple(layers), controller=controller, delta=delta, mode=mode)
    places = _places(network, settings)
    runs = partial(_run, network, run or network, example)
    with like.device:  # an imported network lies on the CPU even where the default device is "meta"
        channels = _channels(runs, places, shared=controller == "fixed")
        plugged = [_plug(network, place, channels[place.name], settings) for place in places]
        _check_all_run(runs, dict(zip((place.name for place in places), plugged, strict=True)))
    return tuple(place.name for place in places)


def suppressions(network: nn.Module) -> tuple[str, ...]:
    """The names of `network`'s suppression modules."""
    return tuple(name for name, module in network.named_modules() if isinstance(module, Suppression))


def _plug(network: nn.Module, place: _Place, channels: int, settings: SuppressionSettings) -> Suppression:
    """Put one suppression in its place."""
    keeps_activation = settings.mode == "replace" and not isinstance(place.module, nn.ReLU)
    suppression = Suppression(
        channels,
        settings.controller,
        settings.delta,
        activation=place.module if keeps_activation else None,
        rectifies=isinstance(place.module, NON_NEGATIVE),
    )
    like = next(network.parameters(), torch.empty(0))
    suppression.to(device=like.device, dtype=like.dtype)
    suppression.train(place.module.training)
    if settings.mode == "replace":
        shared = [name for name, module in network.named_modules(remove_duplicate=False) if module is place.module]
        for name in shared:
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, suppression)
        return suppression
    place.module.add_module("suppression", suppression)
    if not isinstance(place.module, nn.Sequential):  # which runs it as its last module already
        place.module.register_forward_hook(_suppress_output)
    return suppression


def _suppress_output(module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    suppressed: Tensor = module.get_submodule("suppression")(output)
    return suppressed


def _places(network: nn.Module, settings: SuppressionSettings) -> list[_Place]:
    """The modules that the settings' layers stand for, in the network's order, each once."""
    plugged = tuple(f"{name}." for name in suppressions(network))
    names = {name: module for name, module in network.named_modules() if name and not name.startswith(plugged)}
    groups: Mapping[str, tuple[str, ...]] = {}
    if isinstance(network, Layered) and hasattr(type(network), "layers"):  # a module may be called so, too
        groups = network.layers()
    chosen: set[str] = set()
    for pattern in settings.layers:
        matches = re.compile(re.escape(pattern).replace(r"\*", "[^.]*")).fullmatch
        within = [name for layer, parts in groups.items() if matches(layer) for name in parts]
        exact = [] if within else [name for name in names if matches(name)]
        if not within and not exact:
            raise RecipeError(f"suppression.layers: {pattern!r} matches nothing; {_existing(groups, names)}")
        replaced_in, followed = ([*within, *exact], []) if settings.mode == "replace" else (within, exact)
        found = [*_activations(names, replaced_in), *followed]
        if not found:
            raise RecipeError(
                f"suppression.layers: {pattern!r} holds no activation to {settings.mode}; name a module and set "
                f"mode: follow to suppress its output; {_existing(groups, names)}"
            )
        chosen.update(found)
    places = [_Place(name, module) for name, module in names.items() if name in chosen]
    for name, module in places:
        if isinstance(module, Suppression) or f"{name}.suppression" in names:
            raise RecipeError(f"suppression.layers: {name} is suppressed already")
    return places


def _activations(names: Mapping[str, nn.Module], within: Iterable[str]) -> list[str]:
    """The activations, and the suppressions in their places, that are one of the modules `within` or inside one."""
    roots = tuple(f"{root}." for root in within)
    kinds = (*ACTIVATIONS, Suppression)
    return [name for name, module in names.items() if isinstance(module, kinds) and f"{name}.".startswith(roots)]


def _existing(groups: Mapping[str, tuple[str, ...]], names: Mapping[str, nn.Module]) -> str:
    activations = _activations(names, [name for name in names if "." not in name])
    layers = f"the layers are {', '.join(groups)}; " if groups else ""
    return f"{layers}the activations are {', '.join(activations) or 'none'}"


def _channels(runs: Callable[[], None], places: list[_Place], *, shared: bool) -> dict[str, int]:
    """Channels of each place's output when the network `runs`.

    `shared`: a module may run several times, on any number of channels.
    """
    seen: dict[str, list[int]] = {place.name: [] for place in places}

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def see(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.ndim != 4:
                raise RecipeError(f"suppression.layers: {name} gives no feature maps (B, K, H, W)")
            seen[name].append(output.shape[1])

        return see

    hooks = [place.module.register_forward_hook(watch(place.name)) for place in places]
    try:
        runs()
    finally:
        for hook in hooks:
            hook.remove()
    for name, channels in seen.items():
        if not channels:
            raise RecipeError(
                f"suppression.layers: {name} does not run by itself when the network runs; name the block around it"
            )
        if len(channels) > 1 and not shared:
            raise RecipeError(
                f"suppression.layers: {name} runs {len(channels)} times, on {', '.join(map(str, channels))} channels; "
                "a learnable controller belongs to one place: use controller: fixed, or mode: follow and other names"
            )
    return {name: channels[0] for name, channels in seen.items()}


def _check_all_run(runs: Callable[[], None], plugged: Mapping[str, Suppression]) -> None:
    """Fail where a suppression has no part in the network's result, such as in a container with its own rules."""
    ran: set[str] = set()
    hooks = [
        suppression.register_forward_hook(lambda _module, _inputs, _output, name=name: ran.add(name))
        for name, suppression in plugged.items()
    ]
    try:
        runs()
    finally:
        for hook in hooks:
            hook.remove()
    if len(ran) < len(plugged):
        idle = ", ".join(name for name in plugged if name not in ran)
        raise RecipeError(f"suppression.layers: suppression does not run at {idle}; name another module there")


@contextmanager
def _inference(network: nn.Module) -> Iterator[None]:
    """Inference mode for all modules, and each as it was afterwards."""
    training = [(module, module.training) for module in network.modules()]
    for module, _ in training:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module, was_training in training:
            module.training = was_training


def _run(network: nn.Module, run: Callable[[Tensor], object], example: Tensor) -> None:
    with _inference(network):
        run(example)
