"""Training throughput: `python benchmarks/throughput.py [CASE …] [--ranks N] [--markdown FILE] [--json FILE]`.

    loader    the loader with Pillow v. DALI on the CPU: same photos, same augmentation, same cores
    step      OC-CSE's training step v. one written as research scripts write it
    recipes   each recipe's first training, on 1 and on N ranks (gloo): step time, images/s, waiting, memory, FLOP

How map stores compare with pickled dictionaries of maps is `python benchmarks/store.py`.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from PIL import Image

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.harness import Case, RedError, Row, machine, markdown, measure
from camshaft.engine.data import Augmentation, Batch, ColourJitter, Loader, Normalization, Resize, open_data
from camshaft.engine.data.dali import DaliLoader
from camshaft.engine.data.folder import FolderSettings
from camshaft.engine.models import (
    Classifier,
    ClassifierSettings,
    MultiplierSettings,
    build_classifier,
    parameter_groups,
    resnet,
)
from camshaft.engine.objectives import ErasingObjective, ErasingSettings
from camshaft.engine.objectives.erasing import sample_targets
from camshaft.engine.objectives.objective import Moment
from camshaft.engine.runtime.precision import resolve
from camshaft.engine.training.deepspeed_engine import ObjectiveModule
from camshaft.engine.training.optimizer import build_optimizer
from camshaft.engine.training.settings import Sgd

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
RECIPES = ("recipes/demo.yaml",)
OC_CSE = Augmentation(
    resize=Resize(long_side=(256, 448)),
    flip=0.5,
    jitter=ColourJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
    crop=384,
)
PHOTOS, BATCH, BATCHES = 32, 8, 4
STEP_IMAGES, STEP_SIDE, CLASSES = 4, 129, 20


def loader_case(folder: Path) -> Case:
    """Batches out of the middle of a long epoch, so that each loader has its usual work ahead."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    lines = ["id,thing"]
    for number in range(PHOTOS):
        height, width = [(375, 500), (500, 375), (333, 500)][number % 3]
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3)).astype(np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float32)
        grain = rng.normal(0, 6, (height, width, 1)).astype(np.float32)
        photo = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        Image.fromarray(photo).save(folder / "images" / f"{number:03}.jpg", quality=90)
        lines.append(f"{number:03},1")
    (folder / "tags.csv").write_text("\n".join(lines) + "\n")
    settings = FolderSettings.model_validate({"kind": "folder", "root": folder, "val_fraction": 0})
    data = open_data(settings, Path())
    cores = len(os.sched_getaffinity(0))

    def batches(kind: type[Loader]) -> Iterator[Batch]:
        ids, tags = data.ids("train"), data.tags("train")
        loader = kind(
            data,
            ids,
            tags,
            augmentation=OC_CSE,
            normalization=Normalization(),
            batch_size=BATCH,
            seed=0,
            indices=list(range(len(ids))) * 64,
            workers=cores,
            channels_last=True,
        )
        yield from loader.epoch(0)

    def taker(kind: type[Loader]) -> Callable[[], list[Batch]]:
        source = batches(kind)
        return lambda: [next(source) for _ in range(BATCHES)]

    def check(results: Mapping[str, list[Batch]]) -> str:
        worst = 0.0
        for one, other in zip(*results.values(), strict=True):
            worst = max(worst, float((one.image - other.image).abs().mean()))
            if not torch.equal(one.index, other.index) or worst > 0.02:
                raise RedError(f"batches differ: {worst:.4f} standard deviations in the mean")
        return f"the same samples; pixels differ by {worst:.4f} standard deviations in the mean"

    images = f"{BATCHES} batches of {BATCH} at {OC_CSE.crop} px, {cores} threads"
    contenders = {"torch + Pillow": taker(Loader), "DALI on the CPU": taker(DaliLoader)}
    return Case("loader", images, contenders, "torch + Pillow", check, rounds=8)


def step_case(_: Path) -> Case:
    """Both steps begin with the same weights and see the same batch in every call."""
    torch.manual_seed(0)
    settings = ClassifierSettings.model_validate({"backbone": {"name": "resnet50", "output_stride": 16}})
    names = [f"class {number}" for number in range(CLASSES)]
    guide = build_classifier(settings, names, Path())
    network = build_classifier(settings, names, Path())
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(STEP_IMAGES, 3, STEP_SIDE, STEP_SIDE, generator=generator)
    tags = (torch.rand(STEP_IMAGES, CLASSES, generator=generator) > 0.8).float()
    tags[:, 0] = 1
    batch = Batch(image, tags, torch.arange(STEP_IMAGES))
    moment = Moment(seed=("bench",), step=0, epoch=0, index=tuple(range(STEP_IMAGES)))
    arithmetic, why = resolve("auto", CPU)
    optimizer = Sgd(lr=1e-6)
    contenders = {
        "as research scripts write it": research_step(copied(network), copied(guide), batch, moment, optimizer),
        f"camshaft, {arithmetic}": our_step(copied(network), copied(guide), batch, moment, optimizer, arithmetic),
    }

    def check(results: Mapping[str, float]) -> str:
        theirs, ours = results.values()
        error = abs(ours - theirs) / abs(theirs)
        if not error < (1e-3 if arithmetic == "fp32" else 3e-2):
            raise RedError(f"losses {theirs} and {ours}")
        return f"first losses differ by {error:.1e} of their value"

    notes = {f"camshaft, {arithmetic}": why}
    title = f"ResNet-50, {STEP_IMAGES} images of {STEP_SIDE} px"
    return Case("OC-CSE step", title, contenders, "as research scripts write it", check, notes, rounds=6)


def copied(network: Classifier) -> Classifier:
    settings = network.settings
    copy = build_classifier(settings, network.classes, Path())
    copy.load_state_dict(network.state_dict())
    return copy


def research_step(
    network: Classifier, guide: Classifier, batch: Batch, moment: Moment, settings: Sgd
) -> Callable[[], float]:
    """Separate operations in float32, the guide's weights with gradients, figures read by .item() in each step."""
    network.train()
    guide.eval()
    optimizer = torch.optim.SGD(network.parameters(), settings.lr, settings.momentum, foreach=False, fused=False)
    target = sample_targets(batch.tags, moment)
    remaining = batch.tags.clone()
    remaining[torch.arange(len(target)), target] = 0
    sums = {"loss": 0.0, "classification": 0.0, "erasing": 0.0}

    def step() -> float:
        with patch.object(resnet, "normalized", lambda x, convolution, norm: norm(convolution(x))):
            optimizer.zero_grad()
            maps = network(batch.image)
            classification = F.multilabel_soft_margin_loss(maps.mean((2, 3)), batch.tags)
            up = F.relu(F.interpolate(maps, batch.image.shape[2:], mode="bilinear", align_corners=False))
            chosen = up[torch.arange(len(target)), target].unsqueeze(1)
            mask = 1 - chosen / (chosen.max() + 1e-5)
            left = guide(batch.image * mask)
            erasing = F.multilabel_soft_margin_loss(left.mean((2, 3)), remaining)
            loss = classification + 0.3 * erasing
            loss.backward()
            optimizer.step()
        for name, value in (("loss", loss), ("classification", classification), ("erasing", erasing)):
            sums[name] += value.item()
        return loss.item()

    return step


def our_step(
    network: Classifier, guide: Classifier, batch: Batch, moment: Moment, settings: Sgd, arithmetic: Any
) -> Callable[[], float]:
    """The training loop's own parts; the loss is read where the loop reads it, once a step."""
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    objective = ErasingObjective(ErasingSettings(), guide)
    objective.to(CPU)
    module = ObjectiveModule(network, objective, arithmetic, CPU)
    optimizer = build_optimizer(settings.model_copy(update={"weight_decay": 0.0}), parameter_groups(network, FLAT))
    image = batch.image.contiguous(memory_format=torch.channels_last)
    batch = Batch(image, batch.tags, batch.index)

    def step() -> float:
        optimizer.zero_grad()
        loss, _ = module(batch, moment)
        loss.sum().backward()
        optimizer.step()
        return float(loss.detach().sum())

    return step


FLAT = MultiplierSettings(
    pretrained_weights=1, pretrained_biases=1, new_weights=1, new_biases=1, decay_biases=False, decay_norms=False
)


def recipe_rows(recipe: str, ranks: int, folder: Path) -> list[Row]:
    """The recipe's first training on one rank, then on several; each sees the same global batch."""
    rows: list[Row] = []
    alone: dict[str, Any] | None = None
    for world_size in dict.fromkeys((1, ranks)):
        of_ranks = trained(recipe, world_size, Path(tempfile.mkdtemp(dir=folder)))
        found = of_ranks[0]
        alone = alone or found
        ms = np.array(found["step_seconds"]) * 1e3
        q20, q50, q80 = np.quantile(ms, [0.2, 0.5, 0.8])
        first = np.array(alone["step_seconds"]) * 1e3
        memory = sum(one["peak_bytes"] for one in of_ranks) / 2**30
        rate = found["batch"] / q50 * 1e3
        flops = found["flop"] / (q50 / 1e3)
        note = (
            f"{rate:.1f} images/s, {found['waiting']:.0%} waiting for data, {memory:.2f} GiB, "
            f"{flops / 1e9:.0f} GFLOP/s = {flops / found['peak_flops'] / world_size:.0%} of products of matrices"
        )
        agreement = f"losses differ by {max(map(abs, np.subtract(found['losses'], alone['losses']))):.1e}"
        ratios = float(np.median(first) / q50), float(first.min() / ms.min())
        times = len(ms), float(q20), float(q50), float(q80), float(ms.min())
        case = f"{Path(recipe).stem}: {found['stage']}, batch {found['batch']}"
        rows.append(Row("training", case, f"{world_size} rank(s)", "1 rank(s)", *times, *ratios, agreement, note))
    return rows


def trained(recipe: str, ranks: int, folder: Path) -> list[dict[str, Any]]:
    """What each rank's process reports."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = max(1, len(os.sched_getaffinity(0)) // ranks)
    processes = []
    for rank in range(ranks):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = os.environ | {name: str(value) for name, value in place.items()}
        environment |= {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": str(threads), "PYTHONSAFEPATH": "1"}
        worker = [sys.executable, str(ROOT / "benchmarks" / "throughput_worker.py"), recipe, str(folder)]
        processes.append(subprocess.Popen(worker, env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT))
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(process.returncode for process in processes):
        raise RedError(f"{recipe} on {ranks} rank(s) failed")
    return [json.loads(output.splitlines()[-1]) for output in outputs]


CASES: Mapping[str, Callable[[Path], Case]] = {"loader": loader_case, "step": step_case}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the files asked for."""
    names = (*CASES, "recipes")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(names)}; all if none is named")
    parser.add_argument("--ranks", type=int, default=2, help="ranks that a recipe's training is compared on")
    parser.add_argument("--recipe", action="append", help=f"a recipe (may be repeated); default: {', '.join(RECIPES)}")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    parser.add_argument("--json", type=Path, help="write rows and machine to this file")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.cases) - set(names)):
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(names)}")
    host = machine()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        try:
            for name in options.cases or names:
                if name in CASES:
                    rows += measure(CASES[name](folder / name))
                    continue
                for recipe in options.recipe or RECIPES:
                    rows += recipe_rows(recipe, options.ranks, folder)
        except RedError as error:
            print(f"RED: {error}; no figure is reported", file=sys.stderr)
            return 1
    table = markdown(rows, host)
    print(table)
    if options.markdown:
        options.markdown.write_text(table)
    if options.json:
        options.json.write_text(json.dumps({"machine": host, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
