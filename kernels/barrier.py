"""The threads of one compiled (Numba) computation, and a barrier at which they wait for each other.

Phases of some ten microseconds are too short to hand out from Python. Here a thread that waits looks at a counter in
memory, and after a while leaves the processor to whoever else wants it.
"""

# ruff: noqa: ARG001 - Numba calls with all arguments, and finds those of an intrinsic by name

from collections.abc import Callable
from typing import Any, NamedTuple

import numba.extending
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from camshaft.kernels.compiled import compiled

intrinsic: Callable[[Callable[..., Any]], Callable[..., Any]] = numba.extending.intrinsic
LOOKS = 2000  # before a waiting thread leaves the processor to others
INT64 = ir.IntType(64)


class Member(NamedTuple):
    """One of the threads of a computation.

    Attributes:
        number: from 0 on.
        team: how many there are.
        arrivals: their barrier, int64 (2,): how often they have arrived, and whether the computation is given up.
    """

    number: int
    team: int
    arrivals: NDArray[np.int64]


def members(team: int) -> list[Member]:
    """Return all members of a team, with a new barrier."""
    arrivals = np.zeros(2, np.int64)
    return [Member(number, team, arrivals) for number in range(team)]


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
    _arrive(arrivals)
    looks = 0
    while _look(arrivals, 0) < all_there and _look(arrivals, 1) == 0:
        looks += 1
        if looks > LOOKS:
            _give_way()
    return meetings + 1


@intrinsic
def _arrive(typing: Any, array: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        data = make_array(array)(context, builder, arguments[0]).data
        builder.atomic_rmw("add", data, ir.Constant(INT64, 1), "seq_cst")
        return context.get_dummy_value()

    return types.void(array), generate


@intrinsic
def _look(typing: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        data = make_array(array)(context, builder, arguments[0]).data
        return builder.load_atomic(builder.gep(data, [arguments[1]]), "seq_cst", 8)

    return types.int64(array, types.intp), generate


@intrinsic
def _give_way(typing: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate
