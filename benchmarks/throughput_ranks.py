"""What several ranks are worth, for throughput.py: a recipe's first training, and the stage that infers maps.

Each rank is a process; its measurement is throughput_worker.py's.
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.harness import RedError, Row, compared, with_rates

ROOT = Path(__file__).parents[1]
MAP_IMAGES = 96
MAP_ROUNDS = 2
MAPS = {
    "name": "maps",
    "data": {"kind": "scenes", "train": MAP_IMAGES, "val": 1, "height": 96, "width": 128},
    "stages": [
        {
            "id": "ordinary",
            "kind": "classify",
            "backbone": {"name": "efficientnet_lite0", "weights": None},
            "iterations": 1,
            "augmentation": {"crop": 65},
        },
        {"id": "maps", "kind": "maps", "network": "ordinary", "scales": [0.5, 1.0]},
    ],
}
"""A stage of maps whose network need not be a good one: it takes as long."""


def training_rows(recipe: str, ranks: int, folder: Path) -> list[Row]:
    """The recipe's first training on one rank, then on several; each sees the same global batch."""
    cores = cores_here()
    found = {
        count: started(["training", recipe, tempfile.mkdtemp(dir=folder)], count, max(1, len(cores) // count))
        for count in dict.fromkeys((1, ranks))
    }
    notes = {}
    for count, of_ranks in found.items():
        first = of_ranks[0]
        memory = sum(one["peak_bytes"] for one in of_ranks) / 2**30
        flops = first["flop"] / float(np.median(first["step_seconds"]))
        notes[f"{count} rank(s)"] = (
            f"{first['waiting']:.0%} waiting for data, {memory:.2f} GiB, {first['precision']}, "
            f"{flops / 1e9:.0f} GFLOP/s = {flops / first['peak_flops'] / count:.0%} of what products of matrices reach"
        )
    one, several = (found[count][0] for count in (1, ranks))
    apart = max(map(abs, np.subtract(several["losses"], one["losses"])))
    seconds = {f"{count} rank(s)": of_ranks[0]["step_seconds"] for count, of_ranks in found.items()}
    case = f"{Path(recipe).stem}: {one['stage']}, batch {one['batch']}"
    rows = compared("training", case, seconds, "1 rank(s)", f"losses differ by {apart:.1e}", notes)
    return with_rates(rows, one["batch"])


def map_rows(ranks: int, folder: Path) -> list[Row]:
    """The stage that infers maps: one rank on one core, then several, each on a core of its own.

    Raises:
        RedError: there are fewer cores than ranks, or the maps differ.
    """
    cores = cores_here()
    if len(cores) < ranks:
        raise RedError(f"{ranks} ranks need as many cores, here are {len(cores)}")
    folder = Path(tempfile.mkdtemp(dir=folder))
    recipe = folder / "maps.yaml"
    recipe.write_text(yaml.safe_dump(MAPS))
    started(["stage", str(recipe), str(folder / "run"), "maps"], 1, 1, cores[:1])
    (trained,) = (path.parent for path in (folder / "run" / "stages").glob("*/network.safetensors"))
    seconds: dict[str, list[float]] = {"1 rank on a core": [], f"{ranks} ranks on a core each": []}
    contents = set()
    for turn in range(MAP_ROUNDS):
        for name, count in zip(seconds, (1, ranks), strict=True):
            again = folder / f"{turn}-{count}"
            (again / "stages").mkdir(parents=True)
            (again / "stages" / trained.name).symlink_to(trained)
            (of_first, *_) = started(["stage", str(recipe), str(again), "maps"], count, 1, cores[:count])
            seconds[name].append(of_first["seconds"])
            contents.add(digest(next(path for path in (again / "stages").iterdir() if not path.is_symlink())))
            shutil.rmtree(again)
    if len(contents) != 1:
        raise RedError("the maps of 1 and several ranks differ")
    agreement = "the same bytes in all shards"
    rows = compared("map stage", f"{MAP_IMAGES} images", seconds, "1 rank on a core", agreement, {})
    return with_rates(rows, MAP_IMAGES)


def digest(stage: Path) -> str:
    """Of the bytes of a map store's shards."""
    shards = [path for path in sorted((stage / "train").rglob("*")) if path.is_file() and path.parent.name == "c"]
    if not shards:
        raise RedError(f"{stage}: no shards")
    return hashlib.sha256(b"".join(path.read_bytes() for path in shards)).hexdigest()


def cores_here() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


def started(work: Sequence[str], ranks: int, threads: int, cores: Sequence[int] = ()) -> list[dict[str, Any]]:
    """Start throughput_worker.py on all ranks; what each reports. Rank r is bound to the r-th of `cores`, if given.

    Raises:
        RedError: a rank failed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    worker = [sys.executable, str(ROOT / "benchmarks" / "throughput_worker.py"), *work]
    processes = []
    for rank in range(ranks):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        if not cores:
            place["LOCAL_WORLD_SIZE"] = ranks
        environment = os.environ | {name: str(value) for name, value in place.items()}
        environment |= {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": str(threads), "PYTHONSAFEPATH": "1"}
        process = subprocess.Popen(worker, env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        if cores:
            os.sched_setaffinity(process.pid, {cores[rank]})
        processes.append(process)
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(process.returncode for process in processes):
        raise RedError(f"{' '.join(work)} failed on {ranks} rank(s)")
    return [json.loads(output.splitlines()[-1]) for output in outputs]
