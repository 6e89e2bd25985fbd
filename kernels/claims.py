"""Work that the threads of a compiled (Numba) computation take piece by piece, so that a slow one holds nobody up.

Cores are rarely equally fast: on a shared machine one may do half of what the other does, and a thread wakes up late.
So each member takes pieces of a part of its own first, since that lies in its cache, and then what the slower ones have
left of theirs; and all wait until the work is done, not for each other. One alone could do everything.

Who does what is left to chance: this is for work whose result does not depend on it. (The loops over `claim` would be
shorter with a generator, but one that comes from Numba's cache can't be used by a function that is compiled later.)
"""

from camshaft.kernels.atomic import look, replace
from camshaft.kernels.barrier import LINE, Member, pause
from camshaft.kernels.compiled import compiled

PIECES = 8  # of a member's own part
# a counter holds the phase that it counts in, and the count
COUNT_BITS = 32
COUNT = (1 << COUNT_BITS) - 1


@compiled()
def counted(word: int, phase: int) -> int:
    """Return a counter's count in this phase, 0 if it still holds that of one before."""
    return word & COUNT if word >> COUNT_BITS == phase else 0


@compiled()
def claim(member: Member, phase: int, length: int) -> tuple[int, int]:
    """Return begin and end of a part of 0 … length that nobody has claimed in this phase; equal if there is none left.

    Args:
        member: who asks.
        phase: above 0, and larger than those before.
        length: the same for all members, fewer than 2³².
    """
    for turn in range(member.team):
        other = member.number + turn
        if other >= member.team:
            other -= member.team
        counter = LINE + other * LINE
        first, last = length * other // member.team, length * (other + 1) // member.team
        size = -(-(last - first) // PIECES) if member.team > 1 else last - first
        while True:
            word = look(member.claims, counter)
            begin = first + counted(word, phase)
            if word >> COUNT_BITS > phase or begin == last:
                break
            end = min(begin + size, last)
            if replace(member.claims, counter, word, (phase << COUNT_BITS) + end - first):
                return begin, end
    return 0, 0


@compiled()
def finish(member: Member, phase: int, length: int, done: int) -> int:
    """Wait until all of a phase's work is done; returns the next phase.

    What was written for it is seen by all afterwards. The member must have finished the phase before.

    Args:
        member: who has come.
        phase, length: as `claim` had them.
        done: how much of the length this member has done.
    """
    while done > 0:
        word = look(member.claims, 0)
        if replace(member.claims, 0, word, (phase << COUNT_BITS) + counted(word, phase) + done):
            break
    looks = 0
    while length > 0 and look(member.claims, 0) < (phase << COUNT_BITS) + length:
        looks = pause(looks)
    return phase + 1
