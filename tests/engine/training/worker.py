"""A process of a training test: runs the named scenarios of the tiny task in a folder, and says each step.

    python worker.py FOLDER SCENARIO [SCENARIO …]

Its place among other processes comes from the environment, as a launcher sets it.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

import torch

from camshaft.engine.errors import CamshaftError
from camshaft.engine.objectives import SegmentationObjective, SegmentationSettings
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


def poisoned(run, ranks):
    source = tiny.TinySource(micro_batch=4, rank=ranks.rank, ranks=ranks.world_size, poison=5)
    run(WHOLE_BATCHES, ranks=ranks, source=source)


def stopped_on_the_last_rank(run, ranks):
    stop = StopFlag()

    def ask(step):
        if step == 3 and ranks.rank == ranks.world_size - 1:
            stop.set("SIGTERM")

    run({**WHOLE_BATCHES, "zero_stage": 1}, ranks=ranks, stop=stop, each_step=ask)


def disk_full_on_the_last_rank(run, ranks):
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if ranks.rank == ranks.world_size - 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        run({**WHOLE_BATCHES, "zero_stage": 1, "checkpoint_every": {"steps": 2}}, ranks=ranks)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def main():
    torch.set_num_threads(1)
    ranks = Ranks.from_environment()
    for name in sys.argv[2:]:
        folder = Path(sys.argv[1]) / name
        run = tiny.Run(folder)
        error = None
        try:
            globals()[name](run, ranks)
        except CamshaftError as caught:
            error = f"{type(caught).__name__}: {caught}"
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(run.weights(), folder / f"weights-{ranks.rank}.pt")
        (folder / f"result-{ranks.rank}.json").write_text(json.dumps({"error": error}))
    ranks.leave()


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    main()
