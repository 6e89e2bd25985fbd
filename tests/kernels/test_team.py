import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from camshaft.kernels import team as module
from camshaft.kernels.barrier import Member, meet
from camshaft.kernels.team import in_order, team, thread_count

CORES = os.sched_getaffinity(0)


def meetings_of(size: int) -> list[int]:
    def work(member: Member) -> int:
        return meet(member, meet(member, 0)) * 10 + member.number

    with team(size) as members:
        return members.each(work)


def test_members_meet_also_when_several_callers_have_a_team_at_once() -> None:
    with ThreadPoolExecutor(3) as callers:
        results = list(callers.map(meetings_of, [3, 2, 3, 1, 2, 3]))
    assert results == [[20, 21, 22], [20, 21], [20, 21, 22], [20], [20, 21], [20, 21, 22]]


def test_threads_are_kept_for_the_next_team_but_not_those_of_a_team_that_failed() -> None:
    def name(member: Member) -> int:
        return threading.get_ident()

    def fail(member: Member) -> int:
        raise RuntimeError(str(member.number))

    with team(2) as members:
        first = members.each(name)
    with team(2) as members:
        assert members.each(name) == first

    def fail_in_the_second(member: Member) -> None:
        if member.number:
            fail(member)

    with pytest.raises(RuntimeError, match="0"), team(2) as members:
        members.each(fail)
    assert meetings_of(2) == [20, 21]
    with pytest.raises(RuntimeError, match="1"), team(2) as members:
        members.each(fail_in_the_second)
    assert meetings_of(2) == [20, 21]


def cores(member: Member) -> set[int]:
    """The cores that a member may use; all have come, so that each is a thread of its own."""
    meet(member, 0)
    return os.sched_getaffinity(0)


class Here:
    """The C library of a thread that runs on a core of the test's choice."""

    def __init__(self, core: int) -> None:
        self.core = core

    def sched_getcpu(self) -> int:
        return self.core


@pytest.mark.skipif(len(CORES) < 2, reason="two cores are needed")
def test_a_helper_may_use_all_cores_but_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    with team(2) as members:
        members.each(cores)  # starts the thread
        for core in (min(CORES), max(CORES), min(CORES)):
            monkeypatch.setattr(module, "_libc", Here(core))
            assert members.each(cores) == [CORES, CORES - {core}]


def test_more_helpers_than_other_cores_stay_where_they_are() -> None:
    with team(len(CORES) + 1) as members:
        for _ in range(2):
            assert members.each(cores) == [CORES] * (len(CORES) + 1)


def test_a_forked_process_starts_threads_of_its_own() -> None:
    assert meetings_of(2) == [20, 21]
    child = multiprocessing.get_context("fork").Process(target=meetings_of, args=(2,))
    child.start()
    child.join(30)
    alive = child.is_alive()
    child.kill()
    assert not alive
    assert child.exitcode == 0


def test_many_inputs_come_back_in_order_and_are_drawn_as_results_are_taken() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            drawn.append(item)
            yield item

    results = in_order(lambda item: item * item, items(), 2)
    assert next(results) == 0
    assert len(drawn) == 4
    assert list(results) == [item * item for item in range(1, 20)]
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda item: 1 // item, [1, 0, 1], 2))


def test_number_of_threads() -> None:
    assert thread_count("crf", 3) == 3
    assert thread_count("crf", None) >= 1
    with pytest.raises(ValueError, match="crf: threads must be at least 1, not 0"):
        thread_count("crf", 0)
