"""How a network is trained: length, batch, optimiser, schedule, precision, and how often the place is saved."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from camshaft.engine.errors import TrainingError
from camshaft.engine.recipe.settings import Settings, added_field, runtime_field
from camshaft.engine.training.user_config import DeepSpeedSettings

Steps = Annotated[int, Field(ge=1)]


class Sgd(Settings):
    """Stochastic gradient descent; weight decay is added to the gradient, as all the papers' code does."""

    kind: Literal["sgd"] = "sgd"
    lr: float = Field(default=0.01, gt=0)
    """Learning rate, before schedule and group multipliers."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum; OC-CSE's code effectively has 5e-4."""
    nesterov: bool = False
    """Nesterov's momentum, as DRS's code has it."""
    weight_decay: float = Field(default=5e-4, ge=0)
    """L2 penalty, before group multipliers."""

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> "Sgd":
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Adam(Settings):
    """Adam; weight decay is added to the gradient."""

    kind: Literal["adam"]
    lr: float = Field(default=1e-4, gt=0)
    """Learning rate, before schedule and group multipliers."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay of the running mean and of the running square of gradients."""
    weight_decay: float = Field(default=0.0, ge=0)
    """L2 penalty, before group multipliers."""


class Poly(Settings):
    """Learning rate · (1 − step / steps)^power."""

    kind: Literal["poly"] = "poly"
    power: float = Field(default=0.9, gt=0)
    """Exponent."""
    every: Steps = 1
    """The rate changes only at multiples of so many steps; DeepLab-v2's code has 10."""


class StepSchedule(Settings):
    """Learning rate · gamma at each of some epochs."""

    kind: Literal["steps"]
    at: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(5, 10), min_length=1)
    """Epochs, counted from 0, from whose start on the rate is multiplied once more."""
    gamma: float = Field(default=0.1, gt=0, le=1)
    """Multiplier."""


class Constant(Settings):
    """The learning rate as it is."""

    kind: Literal["constant"]


class WarmUp(Settings):
    """A linear rise of the learning rate over the first steps."""

    steps: Steps
    """Steps until the whole rate."""
    start: float = Field(default=0.0, ge=0, lt=1)
    """Part of the rate at the first step."""


class CheckpointEvery(Settings):
    """When the place is saved while training: after so many steps, or so many seconds."""

    steps: Steps | None = None
    seconds: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_of_both(self) -> "CheckpointEvery":
        if (self.steps is None) == (self.seconds is None):
            raise ValueError("give either steps or seconds")
        return self


Optimizer = Annotated[Sgd | Adam, Field(discriminator="kind")]
Schedule = Annotated[Poly | StepSchedule | Constant, Field(discriminator="kind")]


class TrainingSettings(Settings):
    """Settings of one training."""

    epochs: int | None = Field(default=None, ge=1)
    """Passes over the images; or give iterations."""
    iterations: int | None = Field(default=None, ge=1)
    """Optimiser steps; or give epochs."""
    batch_size: int = Field(default=8, ge=1)
    """Images to an optimiser step, over all ranks and accumulated micro-batches together."""
    accumulation: int = Field(default=1, ge=1)
    """Micro-batches into which each rank splits its share of a batch, to need less memory."""
    optimizer: Optimizer = Sgd()
    """What turns gradients into steps."""
    schedule: Schedule = Poly()
    """How the learning rate changes."""
    warm_up: WarmUp | None = None
    """A rise of the learning rate at the start, on top of the schedule."""
    gradient_clip: float | None = Field(default=None, gt=0)
    """Largest norm of all gradients together; longer ones are scaled down."""
    loss_scale: float = Field(default=65536.0, ge=1)
    """First loss scale of fp16; it halves on an overflow and doubles after 2000 steps without one."""
    zero_stage: Literal[0, 1, 2] = 0
    """DeepSpeed ZeRO: what ranks share out among them. 0 nothing, 1 optimiser states, 2 gradients too."""
    deepspeed: DeepSpeedSettings | None = added_field(None)
    """What else DeepSpeed is told."""
    compile: Literal["inductor", "aot_eager"] | None = added_field(None)
    """torch.compile's backend for the network that learns: inductor makes code for the device, and needs a C++ compiler
    or Triton; aot_eager only traces, to look for faults. null: not compiled."""
    checkpoint_activations: bool = runtime_field(False)
    """Keep of each block of the backbone, and of a guide's, its input alone, and compute the block again in the
    backward pass: the same losses with less memory and about a third more time."""
    checkpoint_every: CheckpointEvery = runtime_field(CheckpointEvery(seconds=600))
    """When the place is saved."""
    keep_checkpoints: int = runtime_field(2, ge=1)
    """Checkpoints that are kept, newest first."""
    log_every: int = runtime_field(10, ge=1)
    """Steps to a line of metrics, each a mean over those steps."""

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingSettings":
        if (self.epochs is None) == (self.iterations is None):
            raise ValueError("give either epochs or iterations")
        return self

    @model_validator(mode="after")
    def _what_is_kept_is_decided_once(self) -> "TrainingSettings":
        if self.checkpoint_activations and self.compile is not None:
            raise ValueError(
                f"checkpoint_activations does not go with compile: {self.compile}, which decides itself what is kept"
            )
        return self

    def micro_batch(self, world_size: int) -> int:
        """Images to a rank's micro-batch: the size with which its loader is made.

        Raises:
            TrainingError: the batch does not split evenly over ranks and accumulation.
        """
        parts = world_size * self.accumulation
        if self.batch_size % parts:
            raise TrainingError(
                f"batch_size {self.batch_size} does not split over {world_size} rank(s) × accumulation "
                f"{self.accumulation}: make it a multiple of {parts}"
            )
        return self.batch_size // parts

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimiser steps of the whole training."""
        return self.iterations if self.iterations is not None else (self.epochs or 0) * steps_per_epoch

    def identity(self) -> dict[str, Any]:
        """Of these settings those that change the result, as JSON values."""
        return self.part(TrainingSettings).fingerprinted_settings()
