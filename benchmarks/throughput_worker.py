"""One rank's work for throughput_ranks.py; prints one JSON object.

python throughput_worker.py training RECIPE FOLDER    the recipe's first training: step times, waiting for data, peak
                                                      memory, floating-point operations
python throughput_worker.py stage RECIPE FOLDER ID    a run in FOLDER up to its end: the seconds of the stage ID
"""

import json
import resource
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from camshaft.engine.data import open_data
from camshaft.engine.data.dali import choose_loader
from camshaft.engine.models import parameter_groups
from camshaft.engine.objectives import TagsObjective
from camshaft.engine.pipeline.plan import plan
from camshaft.engine.pipeline.recipe import load
from camshaft.engine.pipeline.run import run
from camshaft.engine.runtime.console import Console
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


class Clock:
    """Progress that keeps the time of each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

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
    """Operations of forward and backward for one image: three times those of forward, as is usual.

    torch's counter takes the gradients of depthwise filters for those of dense ones.
    """
    network = stage.build(classes, base, pretrained=False)
    height, width = stage.augmentation.fixed_size or (1, 1)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, height, width))
    return 3 * int(counter.get_total_flops())


def training(ranks: Ranks, recipe: Path, folder: Path) -> dict[str, object]:
    """What a few steps of the recipe's first training took."""
    loaded = load(recipe)
    first = next(stage for stage in loaded.recipe.stages if isinstance(stage, Classify))
    stage = first.model_copy(update={"epochs": None, "iterations": STEPS, "log_every": 1})
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
        progress=lambda _: nullcontext(clock),
        stop=StopFlag(),
        base=loaded.base,
    )
    records = list(read_metrics(folder / "metrics.jsonl")) if ranks.is_first else []
    return {
        "stage": stage.id,
        "batch": stage.batch_size,
        "step_seconds": [b - a for a, b in zip(clock.times[WARM_UP:], clock.times[WARM_UP + 1 :], strict=False)],
        "losses": [record["loss"] for record in records],
        "waiting": records[-1]["waiting_for_data"] if records else 0.0,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "flop": step_flop(stage, data.classes, loaded.base) * stage.batch_size,
        "peak_flops": peak,
        "precision": arithmetic,
    }


def stage(ranks: Ranks, recipe: Path, folder: Path, stage_id: str) -> dict[str, object]:
    """What a stage of the recipe took; the stages that are complete in `folder` are left as they are."""
    loaded = load(recipe)
    result = run(loaded, folder, ranks=ranks, console=Console(enabled=False), stop=StopFlag())
    (planned,) = (one for one in plan(loaded, result.folder) if one.id == stage_id)
    return {"seconds": json.loads((planned.folder / "stage.json").read_text())["seconds"]}


def main(kind: str, recipe: str, folder: str, *stage_id: str) -> None:
    ranks = Ranks.from_environment()
    work = {"training": training, "stage": stage}[kind]
    result = work(ranks, Path(recipe), Path(folder), *stage_id)  # type: ignore[operator]  # as many as it takes
    ranks.leave()
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
