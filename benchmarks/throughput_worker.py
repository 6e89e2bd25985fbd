"""One rank of a recipe's first training, for throughput.py: `python throughput_worker.py RECIPE FOLDER`.

Prints one JSON object: step times, waiting for data, peak memory, floating-point operations.
"""

import json
import resource
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from camshaft.engine.data import Batch, open_data
from camshaft.engine.data.dali import choose_loader
from camshaft.engine.models import parameter_groups
from camshaft.engine.objectives import TagsObjective
from camshaft.engine.objectives.objective import Moment
from camshaft.engine.pipeline.recipe import load
from camshaft.engine.runtime.devices import select_device
from camshaft.engine.runtime.metrics import MetricsLog, read_metrics
from camshaft.engine.runtime.precision import resolve
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.seeds import seed_torch
from camshaft.engine.runtime.stop import StopFlag
from camshaft.engine.stages.classify import Classify
from camshaft.engine.training import train

STEPS, WARM_UP = 10, 3
MATRIX = 1024


class Clock(nullcontext[None]):
    """Progress that keeps the time of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def __enter__(self) -> "Clock":
        return self

    def start_at(self, done: int) -> None:
        del done

    def advance(self, count: int = 1, note: str | None = None) -> None:
        del count, note
        self.times.append(time.perf_counter())


def matrix_flops() -> float:
    """Operations a second of float32 matrix products on this rank's threads, the best of a few."""
    matrix = torch.randn(MATRIX, MATRIX)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - start)
    return 2 * MATRIX**3 / best


def step_flop(stage: Classify, classes: tuple[str, ...], base: Path) -> int:
    """Operations of forward and backward for one image."""
    network = stage.build(classes, base, pretrained=False)
    network.train()
    height, width = stage.augmentation.fixed_size or (1, 1)
    batch = Batch(torch.zeros(1, 3, height, width), torch.zeros(1, len(classes)), torch.zeros(1, dtype=torch.int64))
    with FlopCounterMode(display=False) as counter:
        loss, _ = TagsObjective()(network, batch, Moment(seed=("bench",), step=0, epoch=0, index=(0,)))
        loss.sum().backward()
    return int(counter.get_total_flops())


def main(recipe: Path, folder: Path) -> None:
    """Train a few steps and print what they took."""
    ranks = Ranks.from_environment()
    loaded = load(recipe)
    stage = next(stage for stage in loaded.recipe.stages if isinstance(stage, Classify))
    stage = stage.model_copy(update={"epochs": None, "iterations": STEPS, "log_every": 1})
    data = open_data(loaded.recipe.data, loaded.base)
    seed_torch("bench")
    network = stage.build(data.classes, loaded.base, pretrained=False)
    device = select_device(ranks)
    ids = data.ids("train")
    loader = choose_loader(stage.loader, data, ids, device)(
        data,
        ids,
        data.tags("train"),
        augmentation=stage.augmentation,
        normalization=network.normalization,
        batch_size=stage.micro_batch(ranks.world_size),
        seed=0,
        rank=ranks.rank,
        world_size=ranks.world_size,
        workers=stage.workers,
        channels_last=True,
        device=device,
    )
    clock = Clock()
    arithmetic, _ = resolve(loaded.recipe.precision, device)
    peak = matrix_flops()
    train(
        network,
        TagsObjective(),
        loader,
        parameter_groups(network, stage.multipliers),
        stage,
        arithmetic=arithmetic,
        device=device,
        folder=folder / "checkpoints",
        seed=("bench",),
        ranks=ranks,
        metrics=MetricsLog(folder, tensorboard=False, enabled=ranks.is_first),
        progress=lambda _: clock,
        stop=StopFlag(),
        base=loaded.base,
    )
    records = list(read_metrics(folder / "metrics.jsonl")) if ranks.is_first else []
    result = {
        "stage": stage.id,
        "batch": stage.batch_size,
        "step_seconds": [b - a for a, b in zip(clock.times[WARM_UP:], clock.times[WARM_UP + 1 :], strict=False)],
        "losses": [record["loss"] for record in records],
        "waiting": records[-1]["waiting_for_data"] if records else 0.0,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "flop": step_flop(stage, data.classes, loaded.base) * stage.batch_size,
        "peak_flops": peak,
    }
    ranks.leave()
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
