"""The simulated schedule against cases that are worked out by hand, and against its own bounds."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

PATH = Path(__file__).resolve().parents[2] / "benchmarks/schedule.py"


@pytest.fixture(scope="module")
def schedule() -> ModuleType:
    spec = importlib.util.spec_from_file_location("schedule", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["schedule"] = module
    spec.loader.exec_module(module)
    return module


def test_two_ranks_take_blocks_in_turn(schedule: ModuleType) -> None:
    """Claims of 8 images on two ranks: 2 and 1 at once, then single ones."""
    found = schedule.simulate(np.ones(8), 2)
    assert found.seconds == 4
    assert found.efficiency == 1
    assert found.equal_shares == 1


def test_one_slow_rank_does_not_hold_the_others(schedule: ModuleType) -> None:
    found = schedule.simulate(np.ones(6000), 3, speeds=[0.5, 1, 1])
    assert found.equal_shares == pytest.approx(6000 / 2.5 / 4000)
    assert found.efficiency > 0.9


@pytest.mark.parametrize("ranks", [1, 2, 7, 64])
def test_no_schedule_beats_all_ranks_at_work_or_loses_an_image(schedule: ModuleType, ranks: int) -> None:
    times = np.random.default_rng(3).lognormal(0, 0.5, 20_001)
    found = schedule.simulate(times, ranks)
    assert times.sum() / ranks <= found.seconds * (1 + 1e-12)
    assert found.seconds >= times.max()
    assert found.efficiency > 0.9


def test_a_claim_that_costs_time_is_counted(schedule: ModuleType) -> None:
    assert schedule.simulate(np.ones(10), 1, start=0.5).seconds == 10.5


def test_gradients_of_one_rank_need_no_sum(schedule: ModuleType) -> None:
    import argparse

    given = argparse.Namespace(seconds_per_image=0.1, batch=8, parameters=1e9, link_gigabytes=8.0, workers=2)
    assert schedule.training_step(given, 0.01, 1) == {"compute": 0.8, "all-reduce": 0, "loading": 0.04, "step": 0.8}
    four = schedule.training_step(given, 0.01, 4)
    assert four["all-reduce"] == pytest.approx(2 * 3 / 4 * 4e9 / 8e9)
    assert four["step"] == pytest.approx(0.2 + 0.75)
