import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from camshaft.kernels.barrier import Member, members
from camshaft.kernels.claims import PIECES, claim, finish
from camshaft.kernels.compiled import compiled

PHASES, LENGTH = 300, 37


@compiled()
def add_up(member: Member, board: NDArray[np.int64]) -> int:
    """Add 1 everywhere, phase by phase; counts what others had not done yet when a phase was said to be done."""
    phase, late = 1, 0
    while phase <= PHASES:
        done = 0
        while True:
            begin, end = claim(member, phase, LENGTH)
            if begin == end:
                break
            board[begin:end] += 1
            done += end - begin
        phase = finish(member, phase, LENGTH, done)
        late += (board < phase - 1).sum()
    return late


def test_all_work_is_done_once_and_seen_by_all_afterwards() -> None:
    team = members(3)  # more than the cores of a small machine
    board = np.zeros(LENGTH, np.int64)
    with ThreadPoolExecutor(3) as pool:
        late = list(pool.map(lambda member: add_up(member, board), team))
    assert late == [0, 0, 0]
    assert board.tolist() == [PHASES] * LENGTH


def test_nobody_waits_for_a_thread_that_comes_late_and_it_finds_nothing_to_do() -> None:
    first, second = members(2)
    board = np.zeros(LENGTH, np.int64)
    assert add_up(first, board) == 0
    assert board.tolist() == [PHASES] * LENGTH
    assert add_up(second, board) == 0
    assert board.tolist() == [PHASES] * LENGTH


def test_what_somebody_has_claimed_is_waited_for() -> None:
    first, second = members(2)
    begin, end = claim(second, 1, 2)
    assert (begin, end) == (1, 2)
    assert claim(first, 1, 2) == (0, 1)
    assert claim(first, 1, 2) == (0, 0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(finish, first, 1, 2, 1)
        time.sleep(0.2)
        assert not waiting.done()
        assert finish(second, 1, 2, 1) == 2
        assert waiting.result(timeout=10) == 2


@given(st.integers(1, 5), st.integers(0, 100), st.randoms(use_true_random=False))
def test_in_any_order_the_pieces_are_the_whole(size: int, length: int, random: object) -> None:
    team = members(size)
    choose = random.choice  # type: ignore[attr-defined]
    for phase in (1, 2):
        claimed: list[int] = []
        own = [list(range(length * k // size, length * (k + 1) // size)) for k in range(size)]
        while True:
            member = choose(team)
            begin, end = claim(member, phase, length)
            if begin == end:
                break
            untouched = [item for item in own[member.number] if item not in claimed]
            if untouched:  # one's own part comes first, in order
                assert begin == untouched[0]
            assert end - begin <= (length if size == 1 else -(-max(map(len, own)) // PIECES))
            claimed += range(begin, end)
        assert sorted(claimed) == list(range(length))
        assert finish(team[0], phase, length, length) == phase + 1
