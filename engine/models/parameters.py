"""Which parameters learn, and how fast: pretrained and new layers, weights and biases."""

from typing import TypedDict, TypeVar

from pydantic import Field
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from camshaft.engine.recipe.settings import Settings

Module = TypeVar("Module", bound=nn.Module)
_NEW = "_camshaft_new"
"""The attribute that marks a module as new; it goes along when a network is copied."""

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)


class MultiplierSettings(Settings):
    """Multipliers of the learning rate and of weight decay; the defaults are those of psa and DRS."""

    pretrained_weights: float = Field(default=1.0, ge=0)
    """Learning rate of the weights of pretrained layers."""
    pretrained_biases: float = Field(default=2.0, ge=0)
    """Learning rate of the biases of pretrained layers."""
    new_weights: float = Field(default=10.0, ge=0)
    """Learning rate of the weights of layers that no pretrained file holds: heads, extra layers, controllers."""
    new_biases: float = Field(default=20.0, ge=0)
    """Learning rate of the biases of new layers."""
    decay_biases: bool = True
    """Apply weight decay to biases."""
    decay_norms: bool = True
    """Apply weight decay to the scale and shift of normalisation layers."""


class ParameterGroup(TypedDict):
    """An optimiser's parameter group; its learning rate is the schedule's times `lr_scale`."""

    name: str
    params: list[nn.Parameter]
    lr_scale: float
    weight_decay_scale: float


def mark_new(module: Module) -> Module:
    """Say that no pretrained file holds `module`, and return it."""
    setattr(module, _NEW, True)
    return module


def new_names(network: nn.Module) -> set[str]:
    """Names in `network`'s state dict that belong to modules marked as new, or to modules within them."""
    names: set[str] = set()
    for prefix, module in network.named_modules():
        if getattr(module, _NEW, False):
            names.update(f"{prefix}.{name}" if prefix else name for name in module.state_dict())
    return names


def parameter_groups(network: nn.Module, multipliers: MultiplierSettings) -> list[ParameterGroup]:
    """Sort the parameters that learn into groups: each is in exactly one; groups without any are left out.

    Parameters that do not learn (`requires_grad` is False) are left out.
    """
    new = new_names(network)
    norms = {
        id(parameter)
        for module in network.modules()
        if isinstance(module, NORMS)
        for parameter in module.parameters(recurse=False)
    }
    groups: dict[str, ParameterGroup] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        age = "new" if name in new else "pretrained"
        kind = "biases" if name.rpartition(".")[2] == "bias" else "weights"
        decays = multipliers.decay_norms if id(parameter) in norms else kind == "weights" or multipliers.decay_biases
        group = groups.setdefault(
            f"{age} {kind}" + ("" if decays else ", no decay"),
            ParameterGroup(
                name=f"{age} {kind}" + ("" if decays else ", no decay"),
                params=[],
                lr_scale=getattr(multipliers, f"{age}_{kind}"),
                weight_decay_scale=float(decays),
            ),
        )
        group["params"].append(parameter)
    return list(groups.values())
