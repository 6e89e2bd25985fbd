"""Work that ranks take from one heap: who is quicker does more of it, and nobody waits for a slow one until the end.

The heap is a counter in the process group's store, whose `add` is atomic. Claims in a shared file system would need
locks that network file systems don't keep, and would outlive a killed rank: someone must then decide when a claim is
stale. The counter is gone with the run, and what was done is seen from the files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count as counter

from camshaft.engine.runtime.ranks import Ranks

_SHARE = 2
"""A rank claims one part in `_SHARE` times as many parts as there are ranks of what is left."""

_numbers = counter()


class SharedWork:
    """The units 0 … count − 1 of one piece of work, each given to one rank.

    Iterate over it for this rank's share, in ranges: large ones first, so that stages which stream through many images
    start seldom; single units at the end, so that all ranks end at about the same time.
    """

    def __init__(self, ranks: Ranks, count: int, *, largest: int | None = None) -> None:
        """Share `count` units out; all ranks call this together, in the same order as other shared work.

        Args:
            ranks: this process among its peers.
            count: units, the same number on all ranks.
            largest: units that are claimed at once at most.
        """
        self._ranks, self._count, self._largest = ranks, count, largest or max(1, count)
        self._key = f"work/{next(_numbers)}"

    def __iter__(self) -> Iterator[range]:
        """Claim units until none are left."""
        taken = 0
        while taken < self._count:
            if self._ranks.world_size == 1:
                size = min(self._count - taken, self._largest)
                taken += size
            else:
                # Asked anew: a slow rank that knew only what was left at its last claim would take too much at the end.
                left = self._count - self._ranks.add(self._key, 0)
                size = max(1, min(left // (_SHARE * self._ranks.world_size), self._largest))
                taken = self._ranks.add(self._key, size)
            if taken - size < self._count:
                yield range(taken - size, min(taken, self._count))

    def abandon(self) -> None:
        """Leave nothing to be claimed by any rank."""
        if self._ranks.world_size > 1:
            self._ranks.add(self._key, self._count)


@contextmanager
def sharing(ranks: Ranks, count: int, *, largest: int | None = None) -> Iterator[SharedWork]:
    """Shared work that fails together: an error on one rank ends all after what they have claimed, and all raise it.

    Args:
        ranks: this process among its peers; all of them enter and leave together.
        count: units, the same number on all ranks.
        largest: units that are claimed at once at most.

    Raises:
        CamshaftError: what some rank met.
    """
    work = SharedWork(ranks, count, largest=largest)
    with ranks.failing_together():
        try:
            yield work
        except BaseException:
            work.abandon()
            raise
