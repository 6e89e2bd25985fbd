import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.barrier import barrier, meet
from camshaft.kernels.compiled import compiled

ROUNDS = 300


@compiled()
def rounds(member: int, members: int, arrivals: NDArray[np.int64], board: NDArray[np.int64]) -> int:
    """Write the round on the board, meet, and count how often somebody else's note was not there yet."""
    meetings, late = 0, 0
    for turn in range(1, ROUNDS + 1):
        board[member] = turn
        meetings = meet(arrivals, members, meetings)
        for other in range(members):
            late += board[other] != turn
        meetings = meet(arrivals, members, meetings)
    return late


def test_what_a_thread_wrote_before_is_seen_by_all_afterwards() -> None:
    members = 3  # more than the cores of a small machine: a waiting thread must leave them to the others
    arrivals, board = barrier(), np.zeros(members, np.int64)
    with ThreadPoolExecutor(members) as pool:
        late = list(pool.map(lambda member: rounds(member, members, arrivals, board), range(members)))
    assert late == [0, 0, 0]
    assert arrivals.tolist() == [2 * ROUNDS * members, 0]


def test_nobody_waits_for_a_thread_that_never_comes() -> None:
    arrivals = barrier()
    with ThreadPoolExecutor(1) as pool:
        alone = pool.submit(meet, arrivals, 2, 0)
        time.sleep(0.2)
        assert not alone.done()
        arrivals[1] = 1
        assert alone.result(timeout=10) == 1
