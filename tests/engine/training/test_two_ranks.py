"""Two gloo ranks on the CPU train as one does on the same global batches, and meet faults together."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from camshaft.engine.objectives import (
    AffinityObjective,
    AffinitySettings,
    SegmentationObjective,
    SegmentationSettings,
)

SCENARIOS = (
    "tags",
    "tags_zero1",
    "tags_zero2_fp16",
    "labels",
    "labels_at_two_scales",
    "batch_norm",
    "batch_norm_twice_a_step",
    "pairs",
    "erasing_relu_divide_upsample",
    "erasing_upsample_relu_divide",
    "poisoned",
    "stopped_on_the_last_rank",
    "disk_full_on_the_first_rank",
    "image_lost_on_the_last_rank",
    "metrics_not_written",
    "metrics_not_read",
)
STOPPED = (
    "stopped_zero0_sgd",
    "stopped_zero1_sgd",
    "stopped_zero2_sgd",
    "stopped_zero0_adam",
    "stopped_zero1_adam",
)
"""Stopped on one rank and gone on with on two, or the other way round."""

pytestmark = pytest.mark.two_ranks

TOLERANCE = 2e-5
"""Relative: two ranks add the same float32 terms in another order, over 9 steps with momentum."""


@pytest.fixture(scope="module")
def both(tmp_path_factory, start_ranks):
    """The folder in which two processes ran all scenarios."""
    folder = tmp_path_factory.mktemp("two_ranks")
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    worker = Path(__file__).with_name("worker.py")
    subprocess.run([sys.executable, str(worker), str(folder / GOES_ON), *STOPPED], env=alone, check=True, timeout=120)
    processes = start_ranks(worker, folder, *SCENARIOS, *STOPPED, *(f"{GOES_ON}/{name}" for name in STOPPED))
    said = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return folder


GOES_ON = "goes_on"


def weights(folder, rank):
    return torch.load(folder / f"weights-{rank}.pt", weights_only=True)


def errors(folder):
    return [json.loads((folder / f"result-{rank}.json").read_text())["error"] for rank in range(2)]


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("scenario", ["tags", "tags_zero1"])
def test_one_rank_and_two_learn_the_same(both, run, tiny_network, scenario):
    folder = both / scenario
    assert errors(folder) == [None, None]
    run({"batch_size": 8}, network=lambda: tiny_network(dropout=0.0))
    assert losses(folder) == pytest.approx(run.losses(), rel=TOLERANCE)
    for name, value in run.weights().items():
        assert torch.equal(weights(folder, 0)[name], weights(folder, 1)[name])
        torch.testing.assert_close(weights(folder, 0)[name], value, rtol=1e-4, atol=1e-6)


def test_ranks_with_unequal_numbers_of_labelled_pixels_learn_the_same(both, run, tiny_network):
    folder = both / "labels"
    assert errors(folder) == [None, None]
    objective = SegmentationObjective(SegmentationSettings(), stride=2)
    run({"batch_size": 8}, network=lambda: tiny_network(4, dropout=0.0), objective=objective)
    assert losses(folder) == pytest.approx(run.losses(), rel=TOLERANCE)


def test_ranks_learn_the_same_at_two_scales(both, run, tiny_network, two_scale_objective):
    folder = both / "labels_at_two_scales"
    assert errors(folder) == [None, None]
    run({"batch_size": 8}, network=lambda: tiny_network(4, dropout=0.0), objective=two_scale_objective)
    assert losses(folder) == pytest.approx(run.losses(), rel=TOLERANCE)


def test_ranks_with_unequal_numbers_of_pairs_learn_the_same(both, run, tiny_network):
    folder = both / "pairs"
    assert errors(folder) == [None, None]
    objective = AffinityObjective(AffinitySettings(radius=2, border="none"), 2, align_corners=True)
    run({"batch_size": 8}, network=lambda: tiny_network(4, dropout=0.0), objective=objective)
    assert losses(folder) == pytest.approx(run.losses(), rel=TOLERANCE)


@pytest.mark.parametrize("order", ["relu_divide_upsample", "upsample_relu_divide"])
def test_ranks_divide_by_the_maximum_of_all_their_maps(both, run, tiny_network, batch_erasing, order):
    folder = both / f"erasing_{order}"
    assert errors(folder) == [None, None]
    run({"batch_size": 8}, network=lambda: tiny_network(dropout=0.0), objective=batch_erasing(order))
    assert losses(folder) == pytest.approx(run.losses(), rel=TOLERANCE)


def test_batch_normalisation_takes_the_statistics_of_all_ranks(both, run, batch_normalised):
    folder = both / "batch_norm"
    assert errors(folder) == [None, None]
    run({"batch_size": 8}, network=batch_normalised)
    assert losses(folder) == pytest.approx(run.losses(), rel=TOLERANCE)
    for name, value in run.weights().items():
        assert torch.equal(weights(folder, 0)[name], weights(folder, 1)[name])
        torch.testing.assert_close(weights(folder, 0)[name], value, rtol=1e-4, atol=1e-6)
    assert type(run.network.norm) is torch.nn.BatchNorm2d


def test_so_does_one_that_runs_twice_a_step(both, run, batch_normalised, batch_erasing):
    folder = both / "batch_norm_twice_a_step"
    assert errors(folder) == [None, None]
    objective = batch_erasing("relu_divide_upsample")
    run({"batch_size": 8, "zero_stage": 2}, network=batch_normalised, objective=objective)
    assert losses(folder) == pytest.approx(run.losses(), rel=TOLERANCE)
    assert int(weights(folder, 0)["norm.num_batches_tracked"]) == 2 * len(losses(folder))


def test_a_training_goes_on_on_fewer_ranks(both, run, another_run, tiny_network, resumed):
    name, settings = resumed
    another_run(settings, network=lambda: tiny_network(dropout=0.0))
    assert "after step 4 of 9" in errors(both / name)[0]
    run.folder, run.checkpoints = both / name, both / name / "checkpoints"
    assert run(settings, network=lambda: tiny_network(dropout=0.0)).resumed_at == 4
    assert run.losses() == pytest.approx(another_run.losses(), rel=TOLERANCE)


def test_a_training_goes_on_on_more_ranks(both, run, tiny_network, resumed):
    name, settings = resumed
    run(settings, network=lambda: tiny_network(dropout=0.0))
    folder = both / GOES_ON / name
    assert errors(folder) == [None, None]
    assert [json.loads(path.read_text())["resumed_at"] for path in sorted(folder.glob("result-*"))] == [4, 4]
    assert losses(folder) == pytest.approx(run.losses(), rel=TOLERANCE)


def test_ranks_skip_fp16_overflows_together(both):
    folder = both / "tags_zero2_fp16"
    assert errors(folder) == [None, None]
    for name, value in weights(folder, 0).items():
        assert torch.equal(value, weights(folder, 1)[name])


def test_all_ranks_name_the_image_that_one_of_them_failed_on(both):
    first, second = errors(both / "poisoned")
    assert first == second
    assert "TrainingError: step" in first
    assert "not finite: loss nan" in first
    assert ", 5" in first or "[5" in first


def test_all_ranks_stop_after_the_same_step_when_one_is_asked_to(both):
    first, second = errors(both / "stopped_on_the_last_rank")
    assert first == "Stopped: " + second.removeprefix("Stopped: ").replace("SIGTERM", "another rank")
    assert "after step 4 of 9" in first
    assert [path.name for path in (both / "stopped_on_the_last_rank" / "checkpoints").iterdir()] == ["step-00000004"]


def test_a_full_disk_on_one_rank_stops_all_and_leaves_nothing_half_written(both):
    first, second = errors(both / "disk_full_on_the_first_rank")
    assert first == second
    assert "step-00000002" in first
    assert list((both / "disk_full_on_the_first_rank" / "checkpoints").iterdir()) == []


def test_all_ranks_name_the_image_that_one_of_them_could_not_load(both):
    first, second = errors(both / "image_lost_on_the_last_rank")
    assert first == second == "ImageError: lost.jpg: no such file; step 3"
    assert len(losses(both / "image_lost_on_the_last_rank")) == 3


def test_metrics_that_the_first_rank_cannot_write_stop_all_even_after_the_last_step(both):
    first, second = errors(both / "metrics_not_written")
    assert first == second
    assert first.startswith("TrainingError: rank 0: OSError: ")
    assert len(losses(both / "metrics_not_written")) == 8


def test_metrics_that_the_first_rank_cannot_read_stop_all(both):
    first, second = errors(both / "metrics_not_read")
    assert first == second
    assert "metrics.jsonl" in first
