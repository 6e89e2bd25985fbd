"""Where a training stands: all of its state that is not in the network or the optimiser, as plain numbers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from camshaft.engine.training.gradients import LossScale


@dataclass
class Means:
    """Running means of figures by name."""

    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, figures: Mapping[str, float]) -> None:
        """Take in one step's figures."""
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in figures.items()}
        self.count += 1

    def means(self) -> dict[str, float]:
        """The means so far."""
        return {name: total / self.count for name, total in self.sums.items()}

    def take(self) -> dict[str, float]:
        """The means so far, and start anew."""
        means = self.means()
        self.sums, self.count = {}, 0
        return means


@dataclass
class Place:
    """What a resumed training goes on with."""

    step: int = 0
    """Optimiser steps that are done, skipped ones among them."""
    loss_scale: LossScale = field(default_factory=LossScale)
    skipped_steps: int = 0
    seconds: float = 0.0
    """Spent in the loop so far."""
    interval: Means = field(default_factory=Means)
    """Since the last line of metrics."""
    epoch: Means = field(default_factory=Means)
    """Since the start of the pass."""
    last_epoch: dict[str, float] = field(default_factory=dict)
    """Means of the last whole pass."""

    def to_json(self) -> dict[str, Any]:
        """JSON values from which `from_json` makes the same place, to the last bit."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The place that `to_json` described."""
        parts = {name: kind(**values[name]) for name, kind in PARTS.items()}
        return cls(**{**values, **parts})


PARTS: Mapping[str, type[Any]] = {"loss_scale": LossScale, "interval": Means, "epoch": Means}
