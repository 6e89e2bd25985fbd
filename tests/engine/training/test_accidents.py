"""An error in a network's pass on one of two ranks, or one that does not return: both end, and say why."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

StartRanks = Callable[..., list[subprocess.Popen[str]]]
WORKER = Path(__file__).with_name("accident_worker.py")


@pytest.mark.two_ranks
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_an_error_on_one_rank_soon_ends_both(start_ranks: StartRanks, tmp_path: Path, where: str) -> None:
    processes = start_ranks(WORKER, tmp_path, where)
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    other, failed = (json.loads((tmp_path / f"said-{rank}.json").read_text()) for rank in range(2))
    assert failed["error"] == "ValueError: a bug"
    assert other["error"] == "RankLostError: ended because rank 1 did: ValueError: a bug"
    assert abs(other["at"] - failed["at"]) < 10


@pytest.mark.two_ranks
@pytest.mark.slow
def test_a_rank_that_hangs_in_a_step_is_named_after_the_time_limit(start_ranks: StartRanks, tmp_path: Path) -> None:
    """The other one waits in a process group that DeepSpeed opened, whose own limit is half an hour."""
    waits, _ = start_ranks(WORKER, tmp_path, "hang")
    said = waits.communicate(timeout=120)[0]
    assert waits.returncode == 0, said
    assert "rank 1 does not answer" in json.loads((tmp_path / "said-0.json").read_text())["error"]
