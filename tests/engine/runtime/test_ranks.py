"""Ranks from the environment, and what one process agrees on with itself."""

import pytest
import torch.distributed as dist

from camshaft.engine.errors import StoreError
from camshaft.engine.runtime.ranks import Ranks


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
