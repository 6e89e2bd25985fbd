"""The frames of stages that work image by image: blocks taken by whichever rank is free, done ones skipped.

What a block holds follows from the data alone, so the results have the same bytes for any number of ranks; each rank
writes only what it has taken; a manifest is written when all of it is there. A stage that reads such results sees first
that they are of this run's images.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np

from camshaft.engine.errors import StoreError
from camshaft.engine.runtime.progress import Progress
from camshaft.engine.runtime.work import SharedWork, sharing
from camshaft.engine.stages.stage import StageContext

BLOCKS = 64
"""Blocks that a split is cut into at least, as far as `BLOCK_IMAGES` allow."""
BLOCK_IMAGES = 4, 256
"""Images of a block, at least and at most."""

Item = TypeVar("Item")


def blocks_of(items: Sequence[Item]) -> list[Sequence[Item]]:
    """Consecutive items in blocks that ranks take one by one."""
    size = min(max(len(items) // BLOCKS, BLOCK_IMAGES[0]), BLOCK_IMAGES[1])
    return [items[first : first + size] for first in range(0, len(items), size)]


class Turns:
    """Ranges of units that this rank has taken, one after the other; `advance` as their images are done."""

    def __init__(self, work: SharedWork, progress: Progress, sizes: Sequence[int]) -> None:
        """Use `taking`."""
        self._work, self._progress = work, progress
        self._first_image = [0, *np.cumsum(np.asarray(sizes, np.int64)).tolist()]
        self._shown = 0

    def __iter__(self) -> Iterator[range]:
        """Take units until none are left."""
        for units in self._work:
            # What was taken before is shown as done: of the other ranks no more is known.
            self.advance(self._first_image[units.start] - self._shown)
            yield units

    def advance(self, images: int = 1) -> None:
        """Show `images` more as done."""
        self._shown += images
        self._progress.advance(images)


@contextmanager
def taking(
    context: StageContext, title: str, sizes: Sequence[int], *, total: int, largest: int | None = None
) -> Iterator[Turns]:
    """Let ranks take units of work until none are left, and show how far all of them together are.

    Args:
        context: the stage's; all ranks enter and leave together.
        title: what the progress line says.
        sizes: images of each unit that is to do, the same on all ranks.
        total: images, those that are done already among them.
        largest: units that are taken at once at most.

    Raises:
        CamshaftError: what some rank met, raised on all.
    """
    with (
        sharing(context.ranks, len(sizes), largest=largest) as work,
        context.console.progress(title, total=total, done=total - sum(sizes), unit="images") as progress,
    ):
        yield Turns(work, progress, sizes)


def check_images(context: StageContext, split: str, what: str, path: Path, ids: Sequence[str]) -> None:
    """See that stored results are of the images of a split, in their order.

    Args:
        context: of the stage that reads them.
        split: whose images they should be of.
        what: the results, in a word.
        path: where they are.
        ids: the images that they are of.

    Raises:
        StoreError: they are of others; names one.
    """
    expected = context.ids(split)
    if tuple(ids) == expected:
        return
    other = sorted(set(ids) ^ set(expected))
    which = f"{other[0]!r} is not in both" if other else "they are in another order"
    raise StoreError(f"{path}: {what} of other images than those of {split}: {which}")
