"""What every objective is: a loss and the figures worth logging, from a network and a batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from camshaft.engine.data.batch import Batch

Forward = Callable[[Tensor], Tensor]
"""The network that learns: image (B, 3, H, W) to its output, in the training's arithmetic."""

Figures = dict[str, Tensor]
"""Scalars by name, detached: means over the batch's images. The names are the same in every step."""


@dataclass(frozen=True)
class Moment:
    """Where in the training a batch stands. All randomness of an objective follows from it."""

    step: int
    """Optimiser step, counted from 0."""
    epoch: int
    """Pass over the images, counted from 0."""
    seed: tuple[int | str, ...]
    """Parts for `camshaft.engine.runtime.seeds.derive`, other ones at each step."""
    index: tuple[int, ...]
    """The samples' positions, as `Batch.index` has them, without a copy from the device."""


class Objective(ABC):
    """What a network minimises. An objective holds no state that changes while training."""

    @abstractmethod
    def __call__(self, forward: Forward, batch: Batch, moment: Moment) -> tuple[Tensor, Figures]:
        """The loss, float32 (), and the figures of one micro-batch.

        A loss of several terms, (T,), is their sum; `weight` then has as many numbers.
        """

    def weight(self, batch: Batch) -> float | tuple[float, ...] | None:
        """Of how many values this micro-batch's loss, or each of its terms, is the mean; None where that is its number
        of images.

        The loop weights micro-batches by it, so that a step is the same however its images are split over ranks and
        accumulation. It is asked for on the host, before the batch moves to the device.
        """
        del batch
        return None

    def to(self, device: torch.device) -> None:
        """Move what the objective holds itself, such as a guide, to `device`."""
        del device
