"""What every loader yields, and the interface that training sees of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from camshaft.engine.recipe.settings import Settings


class Normalization(Settings):
    """Mean and standard deviation of the input that a network was trained with, RGB, in units of 0 … 1 pixels."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Batch:
    """B samples. H and W are those of the augmentation's crop or square."""

    image: torch.Tensor
    """(B, 3, H, W) float32, normalised; padding is 0."""
    tags: torch.Tensor
    """(B, C) float32 of 0 and 1."""
    index: torch.Tensor
    """(B,) int64, positions in the loader's ids."""
    target: torch.Tensor | None = None
    """(B, H, W) uint8 labels, padding 255, or (B, C, H, W) float32 maps, padding 0; None without targets."""

    def to(self, device: torch.device | str, non_blocking: bool = True) -> "Batch":
        """The same batch on another device, memory format kept."""

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        target = None if self.target is None else moved(self.target)
        return Batch(moved(self.image), moved(self.tags), moved(self.index), target)


class BatchSource(Protocol):
    """A loader as the training loop sees it: epochs that can be entered anywhere, equal every time."""

    def __len__(self) -> int:
        """Batches an epoch (of this rank; all ranks have as many)."""
        ...

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """This rank's batches of an epoch, from `start_batch` on: exactly those that a whole epoch has there."""
        ...
