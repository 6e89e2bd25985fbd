import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.barrier import Member, meet, members, share
from camshaft.kernels.compiled import compiled

ROUNDS = 300


@compiled()
def rounds(member: Member, board: NDArray[np.int64]) -> int:
    """Write the round on the board, meet, and count how often somebody else's note was not there yet."""
    meetings, late = 0, 0
    for turn in range(1, ROUNDS + 1):
        board[member.number] = turn
        meetings = meet(member, meetings)
        for other in range(member.team):
            late += board[other] != turn
        meetings = meet(member, meetings)
    return late


def test_what_a_thread_wrote_before_is_seen_by_all_afterwards() -> None:
    team = members(3)  # more than the cores of a small machine: a waiting thread must leave them to the others
    board = np.zeros(3, np.int64)
    with ThreadPoolExecutor(3) as pool:
        late = list(pool.map(lambda member: rounds(member, board), team))
    assert late == [0, 0, 0]
    assert team[0].arrivals.tolist() == [2 * ROUNDS * 3, 0]


def test_nobody_waits_for_a_thread_that_never_comes() -> None:
    first, _ = members(2)
    with ThreadPoolExecutor(1) as pool:
        alone = pool.submit(meet, first, 0)
        time.sleep(0.2)
        assert not alone.done()
        first.arrivals[1] = 1
        assert alone.result(timeout=10) == 1


def test_shares_of_all_members_are_the_whole() -> None:
    assert [share(member, 1, 8) for member in members(3)] == [(1, 3), (3, 5), (5, 8)]
    assert [share(member, 1, 2) for member in members(3)] == [(1, 1), (1, 1), (1, 2)]
