"""Fused optimisers, apex's or torch's, over parameter groups with their own multipliers."""

import importlib
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch

from camshaft.engine.errors import TrainingError
from camshaft.engine.models.parameters import ParameterGroup
from camshaft.engine.training.settings import Adam, Optimizer
from camshaft.kernels.choice import choose

CPU = torch.device("cpu")


def build_optimizer(
    settings: Optimizer, groups: Sequence[ParameterGroup], device: torch.device = CPU
) -> torch.optim.Optimizer:
    """The optimiser of `settings` over `groups` on `device`, each decayed by its own `weight_decay_scale`.

    All parameters of a network are updated in one fused pass: apex's on a GPU where it is installed, else torch's,
    which works on the CPU too.

    Raises:
        TrainingError: no parameter learns.
    """
    given: list[dict[str, Any]] = [
        {
            "params": list(group["params"]),
            "name": group["name"],
            "lr_scale": group["lr_scale"],
            "weight_decay": settings.weight_decay * group["weight_decay_scale"],
        }
        for group in groups
        if group["params"]
    ]
    if not given:
        raise TrainingError("no parameter learns: every layer is frozen")
    if _implementation(device) == "apex":
        return _of_apex(settings, given)
    if isinstance(settings, Adam):
        return torch.optim.Adam(given, lr=settings.lr, betas=settings.betas, fused=True)
    return torch.optim.SGD(given, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov, fused=True)


def _implementation(device: torch.device) -> str:
    """Whose fused optimiser runs; said once, and recorded."""
    reason = None
    if device.type != "cuda":
        reason = "works on GPUs only"
    elif find_spec("apex") is None or find_spec("amp_C") is None:
        reason = "not installed with its CUDA extensions"
    return choose("optimizer", "auto", {"apex": reason, "torch fused": None})


def _of_apex(settings: Optimizer, given: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """apex's optimiser: all tensors in one launch; Adam with the penalty in the gradient, as torch's has it."""
    optimizers: Any = importlib.import_module("apex.optimizers")
    if isinstance(settings, Adam):
        made = optimizers.FusedAdam(given, lr=settings.lr, betas=settings.betas, adam_w_mode=False)
    else:
        made = optimizers.FusedSGD(given, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov)
    optimizer: torch.optim.Optimizer = made
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group `rate` times its own `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
