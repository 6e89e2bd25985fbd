"""torch's optimisers over parameter groups with their own multipliers."""

from collections.abc import Sequence
from typing import Any

import torch

from camshaft.engine.errors import TrainingError
from camshaft.engine.models.parameters import ParameterGroup
from camshaft.engine.training.settings import Adam, Optimizer


def build_optimizer(settings: Optimizer, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
    """The optimiser of `settings` over `groups`, each decayed by its own `weight_decay_scale`.

    All parameters of a network are updated in one fused pass, on the CPU too.

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
    if isinstance(settings, Adam):
        return torch.optim.Adam(given, lr=settings.lr, betas=settings.betas, fused=True)
    return torch.optim.SGD(given, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group `rate` times its own `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
