"""A process of a training test: runs the named scenarios of the tiny task in a folder, and says each step.

    python worker.py FOLDER SCENARIO [SCENARIO …]

Its place among other processes comes from the environment, as a launcher sets it.
"""

import importlib.util
import json
import os
import resource
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import torch

from camshaft.engine.errors import CamshaftError, ImageError
from camshaft.engine.objectives import (
    AffinityObjective,
    AffinitySettings,
    SegmentationObjective,
    SegmentationSettings,
)
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.stop import StopFlag

spec = importlib.util.spec_from_file_location("tiny_task", Path(__file__).with_name("conftest.py"))
assert spec is not None
assert spec.loader is not None
tiny = importlib.util.module_from_spec(spec)
sys.modules["tiny_task"] = tiny
spec.loader.exec_module(tiny)

WHOLE_BATCHES = {"batch_size": 8}


def without_dropout(outputs=3):
    return lambda: tiny.TinyNetwork(outputs, dropout=0.0)


def killed(run, ranks):
    """Saves every 4 steps, until someone ends this process."""
    run({"checkpoint_every": {"steps": 4}}, each_step=lambda step: print("step", step, flush=True))  # noqa: T201


def tags(run, ranks):
    run(WHOLE_BATCHES, ranks=ranks, network=without_dropout())


def tags_zero1(run, ranks):
    run({**WHOLE_BATCHES, "zero_stage": 1}, ranks=ranks, network=without_dropout())


def tags_zero2_fp16(run, ranks):
    settings = {**WHOLE_BATCHES, "zero_stage": 2, "loss_scale": 2.0**20}
    run(settings, ranks=ranks, network=without_dropout(), arithmetic="fp16")


def labels(run, ranks):
    objective = SegmentationObjective(SegmentationSettings(), stride=2)
    run(WHOLE_BATCHES, ranks=ranks, network=without_dropout(4), objective=objective)


def labels_at_two_scales(run, ranks):
    run(WHOLE_BATCHES, ranks=ranks, network=without_dropout(4), objective=tiny.two_scales())


def erasing(order):
    def scenario(run, ranks):
        run(WHOLE_BATCHES, ranks=ranks, network=without_dropout(), objective=tiny.batch_erasing(order))

    return scenario


def batch_norm(run, ranks):
    run(WHOLE_BATCHES, ranks=ranks, network=tiny.BatchNormalised)


def batch_norm_twice_a_step(run, ranks):
    settings = {**WHOLE_BATCHES, "zero_stage": 2}
    run(settings, ranks=ranks, network=tiny.BatchNormalised, objective=tiny.batch_erasing(tiny.ORDERS[0]))


def pairs(run, ranks):
    objective = AffinityObjective(AffinitySettings(radius=2, border="none"), 2, align_corners=True)
    run(WHOLE_BATCHES, ranks=ranks, network=without_dropout(4), objective=objective)


def poisoned(run, ranks):
    source = tiny.TinySource(micro_batch=4, rank=ranks.rank, ranks=ranks.world_size, poison=5)
    run(WHOLE_BATCHES, ranks=ranks, source=source)


def stopped_on_the_last_rank(run, ranks):
    stop = StopFlag()

    def ask(step):
        if step == 3 and ranks.rank == ranks.world_size - 1:
            stop.set("SIGTERM")

    run({**WHOLE_BATCHES, "zero_stage": 1}, ranks=ranks, stop=stop, each_step=ask)


def stopped(name):
    """Ends after step 4; where a checkpoint is there already, goes on from it to the end instead."""

    def scenario(run, ranks):
        stop = StopFlag()

        def ask(step):
            if step == 3:
                stop.set("test")

        return run(tiny.RESUMED[name], ranks=ranks, network=without_dropout(), stop=stop, each_step=ask)

    return scenario


MADE = {name: stopped(name) for name in tiny.RESUMED}
MADE |= {f"erasing_{order}": erasing(order) for order in tiny.ORDERS}


@contextmanager
def size_of_files_limited_at_will():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def disk_full_on_the_first_rank(run, ranks):
    with size_of_files_limited_at_will() as limit:
        if ranks.is_first:
            limit(1000)
        run({**WHOLE_BATCHES, "zero_stage": 1, "checkpoint_every": {"steps": 2}}, ranks=ranks)


class LosesAnImage(tiny.TinySource):
    """Its fourth batch can't be loaded on the last rank."""

    def epoch(self, epoch, start_batch=0):
        for number, batch in enumerate(super().epoch(epoch, start_batch)):
            if (epoch, number) == (1, 0) and self.rank == self.ranks - 1:
                raise ImageError("lost.jpg: no such file; step 3")
            yield batch


def image_lost_on_the_last_rank(run, ranks):
    source = LosesAnImage(micro_batch=4, rank=ranks.rank, ranks=ranks.world_size)
    # An objective that has ranks exchange weights before the forward pass, too.
    objective = SegmentationObjective(SegmentationSettings(), stride=2)
    run(WHOLE_BATCHES, ranks=ranks, network=without_dropout(4), objective=objective, source=source)


def metrics_not_written(run, ranks):
    """The record of the last step doesn't fit."""
    with size_of_files_limited_at_will() as limit:
        run(WHOLE_BATCHES, ranks=ranks, each_step=lambda step: limit(0) if step == 8 and ranks.is_first else None)


def metrics_not_read(run, ranks):
    if ranks.is_first:
        (run.folder / "metrics.jsonl").mkdir(parents=True)
    try:
        run(WHOLE_BATCHES, ranks=ranks)
    except IsADirectoryError as error:
        raise CamshaftError(str(error)) from error


def main():
    torch.set_num_threads(1)
    ranks = Ranks.from_environment()
    for name in sys.argv[2:]:
        folder = Path(sys.argv[1]) / name
        run = tiny.Run(folder)
        error = result = None
        try:
            result = (MADE.get(folder.name) or globals()[name])(run, ranks)
        except CamshaftError as caught:
            error = f"{type(caught).__name__}: {caught}"
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(run.weights(), folder / f"weights-{ranks.rank}.pt")
        said = {"error": error, "resumed_at": result and result.resumed_at}
        (folder / f"result-{ranks.rank}.json").write_text(json.dumps(said))
    ranks.leave()


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    main()
