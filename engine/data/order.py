"""Which samples make up which batch: a pure function of seed and epoch, the same on any number of ranks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camshaft.engine.errors import TrainingError
from camshaft.engine.runtime.seeds import numpy_generator


@dataclass(frozen=True)
class Sample:
    """One appearance of an image in an epoch."""

    index: int
    """Position in the loader's ids."""
    repeat: int
    """How often the image has appeared in this epoch before; above 0 only where a batch holds more than all images."""


@dataclass(frozen=True)
class Order:
    """The order of samples. Global batch g is `world_size * batch_size` samples in a row; each rank takes its part."""

    indices: tuple[int, ...]
    """Positions, in the loader's ids, of the images that take part."""
    batch_size: int
    """Samples a batch and rank."""
    seed: int
    """Of the shuffling."""
    rank: int = 0
    """This process among `world_size`."""
    world_size: int = 1
    """How many processes share a global batch."""
    shuffle: bool = True
    """A new order each epoch; else that of `indices`."""
    drop_last: bool = True
    """Leave out what doesn't fill a global batch; else the last one is smaller, and later ranks may have no part."""

    def __post_init__(self) -> None:
        """Check that there is something to order.

        Raises:
            TrainingError: no images are left.
        """
        if not self.indices:
            raise TrainingError("no images are left to load: all are untagged, skipped or filtered out")
        if not 0 <= self.rank < self.world_size or self.batch_size < 1:
            raise ValueError(f"rank {self.rank} of {self.world_size}, batch size {self.batch_size}")

    @property
    def global_batch_size(self) -> int:
        """Samples a batch over all ranks."""
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """This rank's batches an epoch; at least one with `drop_last`."""
        whole, rest = divmod(len(self.indices), self.global_batch_size)
        if self.drop_last:
            return max(1, whole)
        return whole + (rest > self.rank * self.batch_size)

    def epoch(self, epoch: int) -> "Epoch":
        """The order of one epoch."""
        order: NDArray[np.int64] = np.asarray(self.indices, np.int64)
        if self.shuffle:
            order = order[numpy_generator("order", self.seed, epoch).permutation(len(order))]
        return Epoch(self, epoch, order.tolist())


@dataclass(frozen=True)
class Epoch:
    """The order of samples in one epoch, and the randomness of each."""

    order: Order
    number: int
    """Of the epoch, from 0."""
    sequence: Sequence[int]
    """Positions of all images that take part."""

    def batch(self, number: int) -> list[Sample]:
        """This rank's samples of a batch; fewer images than one global batch are gone through again."""
        count = len(self.sequence)
        first = number * self.order.global_batch_size + self.order.rank * self.order.batch_size
        last = first + self.order.batch_size
        if not self.order.drop_last:
            last = min(last, count)
        return [Sample(self.sequence[place % count], place // count) for place in range(first, last)]

    def generator(self, sample: Sample) -> np.random.Generator:
        """The source of a sample's random numbers: a function of seed, epoch, index and repeat."""
        return numpy_generator("augment", self.order.seed, self.number, sample.index, sample.repeat)
