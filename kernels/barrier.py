"""The threads of one compiled (Numba) computation, and a barrier at which they wait for each other.

Phases of some ten microseconds are too short to hand out from Python. Here a thread that waits looks at a counter in
memory, and after a while leaves the processor to whoever else wants it.

Each has a fixed share of the work, for results that depend on who did what; for others see claims.py.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.atomic import add, give_way, look
from camshaft.kernels.compiled import compiled

LOOKS = 2000  # before a waiting thread leaves the processor to others
LINE = 16  # int64 in two cache lines, which are fetched together: counters that several threads write to lie apart


class Member(NamedTuple):
    """One of the threads of a computation.

    Attributes:
        number: from 0 on.
        team: how many there are.
        arrivals: their barrier, int64 (2,): how often they have arrived, and whether the computation is given up.
        claims: the counters of claims.py, int64 (LINE + team * LINE,): a place for what is done, and one for what
            is claimed of each member's part.
    """

    number: int
    team: int
    arrivals: NDArray[np.int64]
    claims: NDArray[np.int64]


def members(team: int) -> list[Member]:
    """Return all members of a team, with a new barrier."""
    arrivals, claims = np.zeros(2, np.int64), np.zeros(LINE + team * LINE, np.int64)
    return [Member(number, team, arrivals, claims) for number in range(team)]


@compiled()
def pause(looks: int) -> int:
    """Let time pass between two looks at a counter, of which there were `looks` before; returns how many there are."""
    if looks >= LOOKS:
        give_way()
    return looks + 1


@compiled()
def share(member: Member, begin: int, end: int) -> tuple[int, int]:
    """Return a member's part of begin … end."""
    length = end - begin
    return begin + length * member.number // member.team, begin + length * (member.number + 1) // member.team


@compiled()
def meet(member: Member, meetings: int) -> int:
    """Wait until all members have come here; returns the number of meetings so far.

    What a thread wrote before is seen by all afterwards. Returns at once when the computation was given up
    (arrivals[1] is set), since some thread may never come.

    Args:
        member: who has come.
        meetings: what this returned to the same thread the last time; 0 at first.
    """
    if member.team == 1:
        return meetings + 1
    arrivals, all_there = member.arrivals, (meetings + 1) * member.team
    add(arrivals, 0, 1)
    looks = 0
    while look(arrivals, 0) < all_there and look(arrivals, 1) == 0:
        looks = pause(looks)
    return meetings + 1
