"""What a training shows while it goes, and what it says when it ends."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Protocol


class Advancing(Protocol):
    """Something that shows progress."""

    def start_at(self, done: int) -> None:
        """So many steps were done before, by a run that this one goes on with."""

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """`count` more steps are done."""


ShowProgress = Callable[[int], AbstractContextManager[Advancing]]
"""From the total number of steps, a context in which progress is shown."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training did; the final weights are in the network."""

    steps: int
    """Optimiser steps of the whole training, skipped ones among them."""
    skipped_steps: int
    """Steps that an fp16 overflow skipped."""
    resumed_at: int
    """Step at which this run went on; 0 where it began."""
    figures: Mapping[str, float]
    """Means of the loss and the objective's figures over the last whole epoch, or all steps if there was none."""
    seconds: float
    """Spent in the loop, by this run and those before it."""
    images_per_second: float
    """Over the whole training."""

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)
