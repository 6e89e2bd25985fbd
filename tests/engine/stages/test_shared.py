"""Two ranks take blocks from one heap: the quick one does more, the bytes are one rank's, accidents lose nothing."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.work import SharedWork
from camshaft.engine.stages.shared import blocks_of

StartRanks = Callable[..., list[subprocess.Popen[str]]]

WORKER = Path(__file__).with_name("shared_worker.py")
IMAGES, BLOCKS = 64, 32


def run(start_ranks: StartRanks, folder: Path, scenario: str, ranks: int = 2) -> list[int]:
    """The exit codes of all ranks."""
    folder.mkdir(exist_ok=True)
    processes = start_ranks(WORKER, folder, scenario, ranks=ranks)
    said = [process.communicate(timeout=120)[0] for process in processes]
    codes = [process.returncode for process in processes]
    assert all(code in (0, -signal.SIGKILL) for code in codes), "\n".join(said)
    return codes


def said(folder: Path, scenario: str, rank: int) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / f"said-{scenario}-{rank}.json").read_text())
    return values


def results(folder: Path) -> dict[str, bytes]:
    """The bytes of all that was made."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("said-")
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, start_ranks: StartRanks) -> dict[str, bytes]:
    """What one rank makes."""
    folder = tmp_path_factory.mktemp("alone")
    assert run(start_ranks, folder, "whole", 1) == [0]
    assert len(said(folder, "whole", 0)["maps"]) == BLOCKS
    return results(folder)


@pytest.mark.parametrize("count", [0, 1, 7, 100])
@pytest.mark.parametrize("largest", [None, 1, 3])
def test_one_rank_takes_each_unit_once(count: int, largest: int | None) -> None:
    taken = list(SharedWork(Ranks(), count, largest=largest))
    assert [unit for units in taken for unit in units] == list(range(count))
    assert largest is None or all(len(units) <= largest for units in taken)


class Heap(Ranks):
    """One of four ranks, whose shared counter is a list in this process."""

    counters: dict[str, int] = {}  # noqa: RUF012 - shared on purpose

    def add(self, key: str, amount: int) -> int:
        self.counters[key] = self.counters.get(key, 0) + amount
        return self.counters[key]


def test_four_ranks_take_large_parts_first_and_each_unit_once(monkeypatch: pytest.MonkeyPatch) -> None:
    work = SharedWork(Heap(world_size=4), 100)
    ranks = [iter(work) for _ in range(4)]
    taken: list[range] = []
    while ranks:
        for rank in list(ranks):
            units = next(rank, None)
            if units is None:
                ranks.remove(rank)
            else:
                taken.append(units)
    assert sorted(unit for units in taken for unit in units) == list(range(100))
    assert (len(taken[0]), len(taken[-1])) == (12, 1)
    assert len(taken) < 50


def test_after_an_error_nothing_is_left_to_take() -> None:
    ranks = Heap(world_size=3)
    work = SharedWork(ranks, 10, largest=1)
    assert next(iter(work)) == range(1)
    work.abandon()
    assert list(work) == []


def test_blocks_are_small_and_follow_from_the_number_of_images() -> None:
    for count, blocks, largest in ((0, 0, 0), (3, 1, 3), (100, 25, 4), (10_582, 65, 165), (82_783, 324, 256)):
        found = blocks_of(range(count))
        assert (len(found), max(map(len, found), default=0)) == (blocks, largest)
        assert [item for block in found for item in block] == list(range(count))


@pytest.mark.two_ranks
def test_the_quick_rank_does_more_and_the_bytes_are_the_same(
    alone: dict[str, bytes], start_ranks: StartRanks, tmp_path: Path
) -> None:
    folder = tmp_path / "both"
    assert run(start_ranks, folder, "whole") == [0, 0]
    quick, slow = said(folder, "whole", 0), said(folder, "whole", 1)
    assert quick["error"] is None
    assert sorted(quick["maps"] + slow["maps"]) == list(range(0, IMAGES, 2))
    assert len(quick["maps"]) > 2 * len(slow["maps"]) > 0
    assert len(quick["masks"] + slow["masks"]) == IMAGES == len({*quick["masks"], *slow["masks"]})
    assert len(quick["masks"]) > len(slow["masks"]) > 0
    assert results(folder) == alone


@pytest.mark.two_ranks
def test_after_a_rank_was_killed_nothing_complete_is_made_again(
    alone: dict[str, bytes], start_ranks: StartRanks, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    assert run(start_ranks, folder, "killed") == [0, -signal.SIGKILL]
    survivor = said(folder, "killed", 0)
    assert survivor["error"].startswith("RankLostError: rank 1 does not answer: killed, out of memory or hanging (")
    assert "\n" not in survivor["error"]
    before = {path: path.stat().st_mtime_ns for path in (folder / "train" / "values" / "c").iterdir()}
    assert len(before) == BLOCKS - 1  # all but the one that the killed rank was at
    assert run(start_ranks, folder, "whole") == [0, 0]
    again = said(folder, "whole", 0)["maps"] + said(folder, "whole", 1)["maps"]
    assert len(again) == 1
    assert again[0] not in survivor["maps"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert results(folder) == alone


@pytest.mark.two_ranks
@pytest.mark.parametrize(
    ("scenario", "own", "others"),
    [
        ("failed", "DataError: lost.jpg: no such file", "DataError: lost.jpg: no such file"),
        ("broken", "ZeroDivisionError: a bug", "RankLostError: ended because rank 1 did: ZeroDivisionError: a bug"),
    ],
)
def test_an_error_on_one_rank_soon_ends_both(
    start_ranks: StartRanks, tmp_path: Path, scenario: str, own: str, others: str
) -> None:
    folder = tmp_path / scenario
    assert run(start_ranks, folder, scenario) == [0, 0]
    other, failed = said(folder, scenario, 0), said(folder, scenario, 1)
    assert failed["error"] == own
    assert other["error"] == others
    assert abs(other["at"] - failed["at"]) < 10
    assert other["masks"] == []
    if scenario == "failed":  # the other one was told to take no more
        assert len(other["maps"]) < BLOCKS - 3


@pytest.mark.two_ranks
def test_a_rank_that_hangs_is_named(start_ranks: StartRanks, tmp_path: Path) -> None:
    (tmp_path / "hanging").mkdir()
    quick, hanging = start_ranks(WORKER, tmp_path / "hanging", "hanging")
    text, _ = quick.communicate(timeout=60)
    assert quick.returncode == 0, text
    assert hanging.poll() is None
    error = said(tmp_path / "hanging", "hanging", 0)["error"]
    assert error.startswith("RankLostError: rank 1 does not answer: killed, out of memory or hanging (Timed out ")
    assert time.time() - said(tmp_path / "hanging", "hanging", 0)["at"] < 60
