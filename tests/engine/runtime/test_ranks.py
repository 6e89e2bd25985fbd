"""Ranks from the environment, and what one process agrees on with itself."""

from pathlib import Path

import pytest
import torch.distributed as dist

from camshaft.engine.errors import StoreError
from camshaft.engine.runtime.ranks import Ranks

WORKER = Path(__file__).with_name("meeting_worker.py")


def test_ranks_come_from_the_environment(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Ranks.from_environment() == Ranks(0, 0, 1)
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert Ranks.from_environment() == Ranks(5, 1, 8)
    assert not Ranks.from_environment().is_first


def test_one_process_needs_no_port_and_no_launcher(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    ranks = Ranks()
    ranks.barrier()
    ranks.join()
    ranks.join()
    assert dist.get_world_size() == 1


def test_one_process_agrees_with_itself():
    assert Ranks().agree(lambda: 7) == 7
    with pytest.raises(KeyError):
        Ranks().agree(lambda: {}["missing"])
    Ranks().raise_alike(None)
    with pytest.raises(StoreError, match="broken"):
        Ranks().raise_alike(StoreError("broken"))


@pytest.mark.two_ranks
def test_ranks_meet_though_the_group_for_tensors_stands_still(start_ranks):
    said = [process.communicate(timeout=120)[0].splitlines()[-1] for process in start_ranks(WORKER, "meet")]
    assert said == ["([0, 1], 'first') [2, 1]"] * 2


@pytest.mark.two_ranks
def test_a_rank_that_does_not_come_to_where_they_meet_is_named(start_ranks):
    waits, _ = start_ranks(WORKER, "hang")
    assert waits.communicate(timeout=120)[0].splitlines()[-1].startswith("rank 1 does not answer: killed, out of ")


@pytest.mark.two_ranks
def test_a_first_rank_that_stands_still_with_its_store_is_named(start_ranks):
    first, waits = start_ranks(WORKER, "stop the first")
    assert waits.communicate(timeout=120)[0].splitlines()[-1].startswith("rank 0 does not answer: the store ")
    assert first.poll() is None
