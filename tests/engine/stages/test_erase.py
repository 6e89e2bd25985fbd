"""CGNet's training and erase-and-infer as stages: two ranks do as one does."""

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from camshaft.engine.models import load_network
from camshaft.engine.stages.networks import FILE

StartRanks = Callable[..., list[subprocess.Popen[str]]]

WORKER = Path(__file__).with_name("erase_worker.py")
STAGES = ("agnostic", "specific", "learning")
TOLERANCE = 2e-5
"""Relative: two ranks add the same float32 terms in another order, over six steps with momentum."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, start_ranks: StartRanks) -> Path:
    """The folder in which one rank, and two, ran every stage, each in `STAGE-RANKS`."""
    spec = importlib.util.spec_from_file_location("erase_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    worker: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    folder = tmp_path_factory.mktemp("erase")
    worker.prepare(folder)
    processes = [process for ranks in (1, 2) for process in start_ranks(WORKER, folder, *STAGES, ranks=ranks)]
    said = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], "\n".join(said)
    return folder


def results(folder: Path) -> dict[str, bytes]:
    """The bytes of all that was made."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def steps(folder: Path) -> list[dict[str, float]]:
    """What each step said of the loss and its terms."""
    terms = ("loss", "classification", "erasing", "guide", "weight", "accuracy")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{term: line[term] for term in terms} for line in lines]


@pytest.mark.two_ranks
@pytest.mark.parametrize("stage", ["agnostic", "specific"])
def test_two_ranks_erase_and_infer_to_the_same_bytes(both: Path, stage: str) -> None:
    one, two = (results(both / f"{stage}-{world_size}") for world_size in (1, 2))
    assert len([name for name in one if name.startswith("train/values/c/")]) == 3
    assert one == two


@pytest.mark.two_ranks
def test_two_ranks_train_with_a_guide_that_learns_along_as_one_does(both: Path) -> None:
    one, two = (steps(both / f"learning-{world_size}") for world_size in (1, 2))
    assert len(one) == len(two) == 6
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=TOLERANCE)
    # All three terms are there and move, the guide's own among them.
    for term in ("classification", "erasing", "guide"):
        assert max(line[term] for line in one) - min(line[term] for line in one) > 1e-3
    first, second = (load_network(both / f"learning-{n}" / FILE, imports=True).state_dict() for n in (1, 2))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-4, atol=1e-6)
