"""How long stages would take on 1 to 64 ranks: `python benchmarks/schedule.py PHOTOS [--seconds-per-step S …]`.

PHOTOS is a folder of JPEGs. The time of decoding and augmenting, and that of a CRF, are measured here for some of them,
image by image. Then the stages' own way of sharing work (`engine/runtime/work.py`, unchanged) is run on a simulated
clock for as many images as COCO has, whose times are drawn from those measured. What is printed for ranks that are not
here is a model's prediction; the docs say what it leaves out (docs/scaling.md).
"""

import argparse
import heapq
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.harness import machine
from camshaft.engine.data.images import read_image
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.work import SharedWork
from camshaft.kernels.crf import crf

COCO_IMAGES = 82_783
RANKS = (1, 2, 4, 8, 16, 32, 64)
Seconds = NDArray[np.float64]


@dataclass
class OneCounter:
    """What `SharedWork` asks of ranks: their number, and a counter that all share."""

    world_size: int
    taken: int = 0

    def add(self, _key: str, amount: int) -> int:
        self.taken += amount
        return self.taken


@dataclass(frozen=True)
class Schedule:
    """One stage on some ranks."""

    ranks: int
    seconds: float
    """Until the last rank is done."""
    efficiency: float
    """Work of all ranks ÷ (ranks' speeds · seconds); 1 where no rank ever waits."""
    equal_shares: float
    """The same where each rank were given as many images beforehand."""


def simulate(times: Seconds, ranks: int, *, speeds: Sequence[float] | None = None, start: float = 0.0) -> Schedule:
    """Let ranks take images block by block.

    Args:
        times: seconds of each image on a rank of speed 1.
        ranks: how many.
        speeds: of each rank; None for 1 each.
        start: seconds that each claim costs.
    """
    speed = np.ones(ranks) if speeds is None else np.asarray(speeds, float)
    until = np.concatenate([[0.0], times.cumsum()])
    counter = cast(Ranks, OneCounter(ranks))
    claims: list[Iterator[range]] = [iter(SharedWork(counter, len(times))) for _ in range(ranks)]
    clocks = [(0.0, rank) for rank in range(ranks)]
    end = 0.0
    while clocks:
        clock, rank = heapq.heappop(clocks)
        images = next(claims[rank], None)
        if images is None:
            end = max(end, clock)
            continue
        seconds = (until[images.stop] - until[images.start]) / speed[rank]
        heapq.heappush(clocks, (clock + start + seconds, rank))
    bounds = np.linspace(0, len(times), ranks + 1).astype(int)
    equal = float(((until[bounds[1:]] - until[bounds[:-1]]) / speed).max())
    ideal = float(times.sum() / speed.sum())
    return Schedule(ranks, end, ideal / end, ideal / equal)


def measured(paths: Sequence[Path], work: Callable[[Path], object]) -> Seconds:
    """Processor seconds of `work` for each photo, after one that counts for nothing: others at work don't count."""
    work(paths[0])
    times = []
    for path in paths:
        started = time.process_time()
        work(path)
        times.append(time.process_time() - started)
    return np.array(times)


def crf_of(path: Path) -> object:
    """The CRF of one photo with three smooth maps, on one thread."""
    image = read_image(path)
    rows, columns = (np.linspace(0, 3, length, dtype=np.float32) for length in image.shape[:2])
    maps = np.stack([np.sin(rows[:, None] + phase) * np.cos(columns + phase) for phase in range(3)])
    positive = np.exp(maps)
    return crf(image, positive / positive.sum(0), threads=1)


def training_step(options: argparse.Namespace, decode: float, ranks: int) -> dict[str, float]:
    """Seconds of the parts of one optimiser step on `ranks` GPUs, and of the step.

    Computing hides the sum over ranks only in part: here not at all, and decoding entirely, as the loader's threads do.
    """
    compute = options.seconds_per_image * options.batch / ranks
    # Each rank sends and receives 2 (R − 1) / R of all gradients, float32, in a ring.
    reduce = 2 * (ranks - 1) / ranks * 4 * options.parameters / (options.link_gigabytes * 1e9)
    loading = decode * options.batch / ranks / options.workers
    return {"compute": compute, "all-reduce": reduce, "loading": loading, "step": max(compute + reduce, loading)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=24, help="photos to measure (default: 24)")
    parser.add_argument("--images", type=int, default=COCO_IMAGES)
    parser.add_argument("--json", type=Path, help="write all figures here")
    group = parser.add_argument_group("training on GPUs, all given by you: nothing of it is measured here")
    group.add_argument("--seconds-per-image", type=float, help="forward and backward pass of one image on one GPU")
    group.add_argument("--batch", type=int, default=40, help="images to a step over all ranks (default: 40)")
    group.add_argument("--epochs", type=float, default=6)
    group.add_argument("--parameters", type=float, default=20.5e6, help="that learn (default: VGG-16 of DRS, 20.5e6)")
    group.add_argument("--link-gigabytes", type=float, default=10.0, help="GB/s between ranks, each way (default: 10)")
    group.add_argument("--workers", type=int, default=8, help="decoding threads a rank (default: 8)")
    options = parser.parse_args()
    paths = sorted(options.photos.glob("*.jpg"))[: options.count]
    if len(paths) < 2:
        parser.error(f"{options.photos}: needs two JPEGs at least")
    times = {"decode": measured(paths, read_image), "crf": measured(paths, crf_of)}
    host = machine()
    print(f"Measured on {host['cpu']}, {host['cores']} cores, load {host['load']}, {len(paths)} photos, one thread:")
    for name, values in times.items():
        low, median, high = np.quantile(values, [0.2, 0.5, 0.8]) * 1e3
        print(f"  {name}: {low:.1f} / {median:.1f} / {high:.1f} ms an image (20 % / median / 80 %)")
    found = {name: report(name, values, options.images) for name, values in times.items()}
    if options.seconds_per_image:
        decode = float(times["decode"].mean())
        steps = options.images / options.batch * options.epochs
        print(f"\nPrediction: {steps:.0f} training steps of {options.batch} images, from the figures that were given")
        for ranks in RANKS:
            parts = training_step(options, decode, ranks)
            shown = ", ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in parts.items())
            print(f"  {ranks:3} ranks: {shown}; {steps * parts['step'] / 3600:.2f} h")
    if options.json:
        schedules = {name: [asdict(schedule) for schedule in rows] for name, rows in found.items()}
        seconds = {name: values.tolist() for name, values in times.items()}
        options.json.write_text(json.dumps({"machine": host, "seconds": seconds, "schedules": schedules}, indent=2))
    return 0


def report(name: str, values: Seconds, images: int) -> list[Schedule]:
    """Print and return the schedules of one stage on all numbers of ranks, then with one rank at half speed."""
    drawn = np.random.default_rng(0).choice(values, images)
    print(f"\nPrediction: {name} of {images} images, one thread a rank, blocks taken in turn")
    print("  ranks        time  efficiency  in equal shares  one rank at half speed: efficiency  in equal shares")
    found = []
    for ranks in RANKS:
        even = simulate(drawn, ranks)
        slow = simulate(drawn, ranks, speeds=[0.5] + [1.0] * (ranks - 1))
        print(
            f"  {ranks:5}  {even.seconds:8.0f} s  {even.efficiency:10.4f}  {even.equal_shares:15.4f}"
            f"  {slow.efficiency:34.4f}  {slow.equal_shares:15.4f}"
        )
        found += [even, slow]
    return found


if __name__ == "__main__":
    sys.exit(main())
