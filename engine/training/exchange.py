"""What ranks tell each other at each step, in one small sum, read without holding the device up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from camshaft.engine.errors import CamshaftError, TrainingError
from camshaft.engine.runtime.ranks import Ranks


@dataclass(frozen=True)
class Exchanged:
    """One step over all ranks and micro-batches."""

    figures: dict[str, float]
    """Means, the loss first. One that is not finite anywhere is not finite here."""
    stop: bool
    """Some rank was asked to stop."""
    save: bool
    """The first rank's clock says that it is time to save."""


class Exchange:
    """Adds up a step's figures over micro-batches and ranks.

    `send` queues the sum and its copy to the host behind the last forward pass. `receive` waits for that copy alone, so
    the device computes the backward pass meanwhile.
    """

    def __init__(self, device: torch.device, ranks: Ranks) -> None:
        """Exchange figures that are computed on `device`."""
        self._device = device
        self._ranks = ranks
        self._names: list[str] = []
        self._rows: list[Tensor] = []
        self._sent: Tensor | None = None
        self._event = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def start(self) -> None:
        """Forget the last step."""
        self._rows = []

    def add(self, loss: Tensor, figures: Mapping[str, Tensor]) -> None:
        """Take in a micro-batch's figures, scalars on the device."""
        self._names = ["loss", *figures]
        self._rows.append(torch.stack([value.detach().double() for value in (loss, *figures.values())]))

    def send(self, *, stop: bool, save: bool) -> None:
        """Queue the sum over micro-batches and ranks."""
        flags = torch.tensor([float(stop), float(save)], dtype=torch.float64)
        total = torch.cat([torch.stack(self._rows).sum(0), flags.to(self._device, non_blocking=True)])
        if self._ranks.world_size > 1:
            dist.all_reduce(total)
        if self._event is not None:
            host = torch.empty(total.shape, dtype=total.dtype, pin_memory=True)
            host.copy_(total, non_blocking=True)
            self._event.record()
            total = host
        self._sent = total

    def receive(self) -> Exchanged:
        """The sum that was sent, as means."""
        if self._event is not None:
            self._event.synchronize()
        assert self._sent is not None
        *sums, stop, save = self._sent.tolist()
        parts = len(self._rows) * self._ranks.world_size
        return Exchanged({n: s / parts for n, s in zip(self._names, sums, strict=True)}, stop > 0, save > 0)

    def own(self) -> list[dict[str, float]]:
        """This rank's figures of each micro-batch; waits for the device."""
        return [dict(zip(self._names, row.tolist(), strict=True)) for row in self._rows]

    def raise_alike(self, error: Exception | None) -> None:
        """Raise on every rank the error of the lowest rank that has one; nothing where none has.

        Several ranks wait for each other here, though not for the device. An error that is not a `CamshaftError` is
        raised as a `TrainingError` with its text, since not every exception can be sent.
        """
        if self._ranks.world_size == 1:
            if error is not None:
                raise error
            return
        if not self._ranks.sum(np.array([error is not None], np.int64)).any():
            return
        told = error
        if told is not None and not isinstance(told, CamshaftError):
            told = TrainingError(f"rank {self._ranks.rank}: {type(told).__name__}: {told}")
        try:
            self._ranks.raise_alike(told)
        except CamshaftError as raised:
            raise raised from error

    def factors(self, weights: Sequence[float | tuple[float, ...] | None]) -> list[Tensor | None]:
        """By what each micro-batch's loss is multiplied, so that the mean over all of them and over ranks is weighted.

        Args:
            weights: of this rank's micro-batches, or of each term of their losses; None, for all of them and on all
                ranks, where they are equal.

        Returns:
            Of the loss's shape on the device, without a wait for it; None for weights that are equal.
        """
        given = [weight for weight in weights if weight is not None]
        if not given:
            return [None for _ in weights]
        own = torch.tensor(given, dtype=torch.float32).to(self._device, non_blocking=True)
        total = own.sum(0)
        if self._ranks.world_size > 1:
            dist.all_reduce(total)
        # Without any weight at all every loss is 0, and stays so.
        return list((own * (len(given) * self._ranks.world_size) / total.clamp(min=1e-12)).unbind())
