"""From gradients to a step: the loss scale of fp16, the check that they are finite, and clipping."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from camshaft.engine.errors import TrainingError
from camshaft.engine.training.settings import TrainingSettings

GROWTH_STEPS = 2000
"""Steps without an overflow after which the loss scale doubles."""


@dataclass
class LossScale:
    """The factor by which fp16 multiplies the loss, so that small gradients do not become 0; 1 in bf16 and fp32."""

    value: float = 1.0
    steady_steps: int = 0

    def overflowed(self) -> None:
        """Gradients were not finite: halve it.

        Raises:
            TrainingError: it is 1 already.
        """
        if self.value <= 1:
            raise TrainingError("fp16: gradients overflow even at loss scale 1; train in bf16 or fp32")
        self.value, self.steady_steps = max(1.0, self.value / 2), 0

    def held(self) -> None:
        """Gradients were finite: double it after enough such steps."""
        self.steady_steps += 1
        if self.steady_steps == GROWTH_STEPS:
            self.value, self.steady_steps = self.value * 2, 0


class Stepper(Protocol):
    """What follows a forward pass, with gradients whole on every rank or partitioned."""

    def backward(self, loss: Tensor, scale: float, last: bool) -> None:
        """Accumulate the gradients of `loss` times `scale`; `last` of the step's micro-batches sums over ranks."""

    def step(self, scale: float) -> float | None:
        """Take the optimiser's step; the gradients' norm before clipping, or None (no step) if it is not finite."""


def build_stepper(engine: Any, settings: TrainingSettings, parameters: Iterable[nn.Parameter]) -> Stepper:
    """The stepper for the settings' ZeRO stage."""
    if settings.zero_stage > 0:
        return PartitionedStepper(engine)
    return WholeStepper(engine, list(parameters), settings.gradient_clip)


class WholeStepper:
    """ZeRO stage 0: every rank holds all gradients, so all come to the same decision by themselves."""

    def __init__(self, engine: Any, parameters: list[nn.Parameter], clip: float | None) -> None:
        """Step the engine's optimiser over `parameters`, their gradients' norm at most `clip`."""
        self._engine = engine
        self._parameters = parameters
        self._clip = clip

    def backward(self, loss: Tensor, scale: float, last: bool) -> None:
        """See `Stepper`."""
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * scale if scale != 1 else loss)

    @torch.no_grad()
    def step(self, scale: float) -> float | None:
        """See `Stepper`."""
        for parameter in self._parameters:
            # As the sum over ranks and ZeRO have it: what took no part has gradient 0, and decays.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients)) / scale
        if not norm < float("inf"):
            self._engine.zero_grad()
            return None
        factor = 1 / scale
        if self._clip is not None and norm > self._clip:
            factor *= self._clip / norm
        if factor != 1:
            torch._foreach_mul_(gradients, factor)
        self._engine.step()
        return norm


class PartitionedStepper:
    """ZeRO stages 1 and 2: DeepSpeed's optimiser unscales, clips and checks the parts, and ranks agree there."""

    def __init__(self, engine: Any) -> None:
        """Step the engine's ZeRO optimiser."""
        self._engine = engine
        self._scale = 1.0

    def backward(self, loss: Tensor, scale: float, last: bool) -> None:
        """See `Stepper`."""
        if scale != self._scale:
            self._engine.optimizer.override_loss_scale(scale)
            self._scale = scale
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss)

    def step(self, scale: float) -> float | None:
        """See `Stepper`."""
        assert scale == self._scale, "the scale of the step is that of its backward passes"
        self._engine.step()
        if self._engine.optimizer.overflow:
            return None
        return float(self._engine.get_global_grad_norm())
