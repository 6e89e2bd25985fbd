"""Faults tried and survived, on two ranks: `python tests/faults.py [NAME …]`.

A small run is made undisturbed. Then, for each fault, a copy of it that lacks one stage is run again, and meets the
fault in that stage. It must end soon and say why; the same command must then end with the figures and the bytes of the
undisturbed run, and must not make again what was there. Prints a table; the exit code is 0 where all were survived.
"""

import argparse
import fnmatch
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
sys.path.append(str(Path(__file__).parent))

from conftest import NETWORK
from trial import RANKS, LostError, NotTriedError, Trial, demand, import_libraries, only

JPEGS = 500
OWN_MOUNTS = "CAMSHAFT_FAULTS_OWN_MOUNTS"
SURVIVED, LOST, NOT_TRIED = "survived", "LOST", "not tried"
LEARNING = {**{key: value for key, value in NETWORK.items() if key != "epochs"}, "iterations": 4, "log_every": 1}
BACKBONE = NETWORK["backbone"]
ALL = {"splits": ["train", "val"]}
ONCE = {"scales": [1.0], "flip": False}
SCENES: Mapping[str, Any] = {
    "name": "scenes",
    "seed": 3,
    "data": {"kind": "scenes", "train": 48, "val": 8, "height": 64, "width": 80},
    "stages": [
        {"id": "ordinary", "kind": "classify", **LEARNING},
        {"id": "cgnet", "kind": "erase", "guide": "ordinary", **LEARNING},
        {"id": "searched", "kind": "erase_and_infer", "network": "ordinary", "rounds": 1, **ONCE},
        {"id": "maps", "kind": "maps", "network": "cgnet", **ALL, **ONCE},
        {"id": "refined", "kind": "refine", "maps": "maps", **LEARNING},
        {"id": "crf", "kind": "crf", "maps": "maps", **ALL, "alphas": [2, 16]},
        {
            "id": "affinity",
            "kind": "affinity",
            "labels": "crf",
            **LEARNING,
            "backbone": {**BACKBONE, "head": False},
            "levels": [{"layer": "stage3", "channels": 8}],
            "border": "none",
            "augmentation": {"resize": {"long_side": [96, 112]}, "flip": 0.5, "crop": 73},
        },
        {"id": "walk", "kind": "walk", "network": "affinity", "maps": "maps", **ALL, "steps": 8, "border": "none"},
        {"id": "labels", "kind": "labels", "crf": "crf", **ALL},
        {
            "id": "deeplab",
            "kind": "segment",
            "labels": "labels",
            **LEARNING,
            "head": {"name": "largefov", "channels": 32},
        },
        {"id": "prediction", "kind": "predict", "network": "deeplab", **ALL, **ONCE, "batch_size": 2, "crf": {}},
        {"id": "scores", "kind": "evaluate", "of": ["walk", "crf", "labels", "prediction"], "sweep": {"step": 0.05}},
    ],
}
PHOTOS: Mapping[str, Any] = {
    "name": "photos",
    "data": {"kind": "folder", "val_fraction": 0},
    "stages": [
        {
            "id": "ordinary",
            "kind": "classify",
            **LEARNING,
            "iterations": 10,
            "batch_size": 50,
            "augmentation": {"resize": {"square": 32}},
        },
        {"id": "maps", "kind": "maps", "network": "ordinary", **ONCE},
    ],
}
STAGES = tuple(stage["id"] for stage in SCENES["stages"])


def killed(trial: Trial, stage: str, ranks: tuple[int, ...]) -> None:
    """The other rank says who was."""
    _, said = trial.signal_in(stage, signal.SIGKILL, ranks)
    if len(ranks) < RANKS:
        demand(f"rank {ranks[0]} does not answer" in said, f"nobody named rank {ranks[0]}:\n{said}")


def terminated(trial: Trial, stage: str, ranks: tuple[int, ...]) -> None:
    """All ranks end with the exit code of a stop."""
    codes, said = trial.signal_in(stage, signal.SIGTERM, ranks)
    demand(codes == [143] * RANKS and "stopped by" in said, f"ended with {codes}:\n{said}")


def hanging(trial: Trial, stage: str, rank: int) -> None:
    """A rank stands still; after the time limit the other one ends and names it."""
    codes, said = trial.signal_in(stage, signal.SIGSTOP, (rank,), rank_timeout_minutes=0.5)
    demand(0 not in codes and f"rank {rank} does not answer" in said, f"nobody named rank {rank}:\n{said}")


def disk_full(trial: Trial, stage: str, free_bytes: int) -> None:
    """The run is on a file system of its own, on which too little is left; then it is made larger."""
    trial.out.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(trial.out)], check=False, capture_output=True).returncode:
        raise NotTriedError("no file system can be mounted here")
    trial.begin_again_at(stage)
    used = shutil.disk_usage(trial.out).used
    remount = ["mount", "-o"]
    subprocess.run([*remount, f"remount,size={used + free_bytes}", str(trial.out)], check=True)
    codes, said = trial.start().end()
    demand(0 not in codes, f"ended with {codes} though the disk was too small:\n{said}")
    demand("no space left on the disk" in said and f"/{stage}-" in said, f"nobody named the full disk:\n{said}")
    subprocess.run([*remount, "remount,size=1g", str(trial.out)], check=True)


def checkpoint_damaged(trial: Trial, stage: str, damage: Callable[[Path], None]) -> None:
    """The newest checkpoint, after all ranks were killed: it is passed over."""
    trial.signal_in(stage, signal.SIGKILL, range(RANKS))
    damage(max(trial.stage(stage).glob("checkpoints/step-*/state.safetensors")))


def part_damaged(trial: Trial, stage: str, damage: Callable[[Path], None]) -> None:
    """A map or mask of a stage that was interrupted: it is made again, the others are not."""
    trial.signal_in(stage, signal.SIGKILL, range(RANKS))
    damage(trial.chance.choice(sorted(trial.parts(stage))))
    trial.half_done += 1


def result_damaged(trial: Trial, stage: str, user: str, damage: Callable[[Path], None]) -> None:
    """A result of a complete stage: who uses it says so, and how to have it made again."""
    trial.begin_again_at(user)
    results = trial.parts(stage) or [trial.stage(stage) / "network.safetensors"]
    damage(max(results, key=lambda path: path.stat().st_size))
    codes, said = trial.start().end()
    demand(0 not in codes, f"ended with {codes} though {stage} is damaged:\n{said}")
    demand(str(trial.stage(stage)) in said, f"nobody named {trial.stage(stage)}:\n{said}")
    shutil.rmtree(trial.stage(stage))


def jpeg_damaged(trial: Trial, stage: str, damage: Callable[[Path], None], *, seen: bool) -> None:
    """One of many images is damaged; where size and time of its file show it, that is said before anything runs."""
    trial.begin_again_at(stage)
    images = sorted((Path(trial.recipe["data"]["root"]) / "images").iterdir())
    image = trial.chance.choice(images)
    data, state = image.read_bytes(), image.stat()
    try:
        damage(image)
        if not seen:
            os.utime(image, ns=(state.st_atime_ns, state.st_mtime_ns))
        codes, said = trial.start().end()
    finally:
        image.write_bytes(data)
        os.utime(image, ns=(state.st_atime_ns, state.st_mtime_ns))
    demand(0 not in codes and str(image) in said, f"ended with {codes} and did not name {image}:\n{said}")
    demand((f"{stage}: starts" not in said) == seen, f"not said in time:\n{said}")


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def overwrite(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong in one stage."""

    kind: str
    stage: str
    do: Callable[[Trial], None]
    recipe: Mapping[str, Any]

    user: str | None = None
    """The stage that meets what was done to `stage`, where that is another one."""

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.stage}".replace(" ", "_")

    @property
    def stages(self) -> list[str]:
        return [self.stage] if self.user is None else [self.stage, self.user]


def in_stages(
    kind: str, stages: Sequence[str], do: Callable[..., None], recipe: Mapping[str, Any] = SCENES, **how: Any
) -> list[Fault]:
    return [Fault(kind, stage, partial(do, stage=stage, **how), recipe, how.get("user")) for stage in stages]


def damages() -> Iterator[Fault]:
    for what, damage in (("truncated", truncate), ("with a flipped byte", flip)):
        yield from in_stages(f"checkpoint {what}", ["ordinary"], checkpoint_damaged, damage=damage)
        yield from in_stages(f"shard {what} in a killed stage", ["maps"], part_damaged, damage=damage)
        yield from in_stages(f"mask {what} in a killed stage", ["crf"], part_damaged, damage=damage)
        yield from in_stages(f"shard {what}", ["maps"], result_damaged, user="crf", damage=damage)
        yield from in_stages(f"mask {what}", ["crf"], result_damaged, user="labels", damage=damage)
        yield from in_stages(f"network {what}", ["deeplab"], result_damaged, user="prediction", damage=damage)


FAULTS = {
    fault.name: fault
    for fault in (
        *in_stages("one rank killed", STAGES, killed, ranks=(1,)),
        *in_stages("first rank killed", ["maps", "deeplab"], killed, ranks=(0,)),
        *in_stages("all ranks killed", STAGES, killed, ranks=(0, 1)),
        *in_stages("SIGTERM to all", ["ordinary", "crf"], terminated, ranks=(0, 1)),
        *in_stages("SIGTERM to one", ["cgnet", "maps"], terminated, ranks=(1,)),
        *in_stages("one rank hangs", ["crf", "deeplab"], hanging, rank=1),
        *in_stages("first rank hangs", ["maps"], hanging, rank=0),
        *in_stages("disk full", ["ordinary"], disk_full, free_bytes=9 << 20),
        *in_stages("disk full", ["maps", "crf"], disk_full, free_bytes=64 << 10),
        *damages(),
        *in_stages(f"one of {JPEGS} JPEGs truncated", ["ordinary"], jpeg_damaged, PHOTOS, damage=truncate, seen=True),
        *in_stages(
            f"one of {JPEGS} JPEGs overwritten unseen",
            ["ordinary", "maps"],
            jpeg_damaged,
            PHOTOS,
            damage=overwrite,
            seen=False,
        ),
    )
}


class Trials:
    """Faults of one recipe, each done to a copy of one undisturbed run."""

    def __init__(self, recipe: Mapping[str, Any], wanted: Sequence[Fault], root: Path, seed: int) -> None:
        self.root, self.seed = root / recipe["name"], seed
        self.root.mkdir(parents=True, exist_ok=True)
        if recipe["data"]["kind"] == "folder":
            recipe = {**recipe, "data": {**recipe["data"], "root": str(photos(self.root / "data"))}}
        self.recipe = only(recipe, [stage for fault in wanted for stage in fault.stages])
        self.undisturbed = self._trial("undisturbed", self.recipe)
        codes, said = self.undisturbed.start().end()  # it goes on with what another time left
        demand(codes == [0] * RANKS, said)

    def _trial(self, name: str, recipe: Mapping[str, Any]) -> Trial:
        folder = self.root / name
        if name != "undisturbed":
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        return Trial(recipe, self.root / "undisturbed/run", folder, random.Random(f"{self.seed} {name}"))

    def attempt(self, fault: Fault) -> tuple[str, str]:
        """Whether the fault was survived, and what is to be said of it; the folder of one that was not stays."""
        trial = self._trial(fault.name, only(self.recipe, fault.stages))
        try:
            fault.do(trial)
            trial.run_again()
        except LostError as lost:
            (trial.folder / "lost.txt").write_text(str(lost), encoding="utf-8")
            return LOST, f"{str(lost).splitlines()[0]} ({trial.folder}/lost.txt)"
        except NotTriedError as reason:
            return NOT_TRIED, str(reason)
        finally:
            if trial.out.is_mount():
                subprocess.run(["umount", str(trial.out)], check=True)
        shutil.rmtree(trial.folder)
        return SURVIVED, ""


def photos(root: Path) -> Path:
    """Images and tags as users have them."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    rows = ["id,cat,dog"]
    for number in range(JPEGS):
        path = root / f"images/p{number:03}.jpg"
        if not path.exists():
            pixels = np.random.default_rng(number).integers(0, 256, (6, 5, 3), np.uint8)
            Image.fromarray(pixels).resize((40, 48)).save(path, quality=90)
        rows.append(f"p{number:03},{number % 2},{number // 2 % 2}")
    (root / "tags.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def own_mounts() -> None:
    """Start this script again where it may mount file systems, which vanish with it; without, if that can't be had."""
    if OWN_MOUNTS not in os.environ and shutil.which("unshare") is not None:
        apart = ["unshare", "--mount", "--map-root-user"]
        if subprocess.run([*apart, "true"], check=False, capture_output=True).returncode == 0:
            os.execvpe(apart[0], [*apart, sys.executable, *sys.argv], {**os.environ, OWN_MOUNTS: "1"})


def table(states: Mapping[str, str]) -> str:
    """A line for each kind of fault, in Markdown."""
    lines = ["| fault | in the stage | tried | survived |", "|---|---|---:|---:|"]
    for kind in dict.fromkeys(FAULTS[name].kind for name in states):
        found = {FAULTS[name].stage: state for name, state in states.items() if FAULTS[name].kind == kind}
        tried = [state for state in found.values() if state != NOT_TRIED]
        lines.append(f"| {kind} | {', '.join(found)} | {len(tried)} | {tried.count(SURVIVED)} |")
    tried = [state for state in states.values() if state != NOT_TRIED]
    return "\n".join([*lines, f"| all | | {len(tried)} | {tried.count(SURVIVED)} |"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which faults, * for any text (default: all)")
    parser.add_argument("--folder", type=Path, help="work here, and keep the undisturbed run for another time")
    parser.add_argument("--list", action="store_true", help="say which faults these are, and do nothing")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which faults come (default: 0)")
    options = parser.parse_args()
    chosen = {name: fnmatch.filter(FAULTS, name) for name in options.names or ["*"]}
    if unknown := [name for name, found in chosen.items() if not found]:
        parser.error(f"no such fault: {', '.join(unknown)}")
    wanted = [FAULTS[name] for name in FAULTS if any(name in found for found in chosen.values())]
    if options.list:
        print("\n".join(fault.name for fault in wanted))  # noqa: T201
        return 0
    own_mounts()
    import_libraries()
    root = options.folder or Path(tempfile.mkdtemp())
    states = {}
    for recipe in (SCENES, PHOTOS):
        of_recipe = [fault for fault in wanted if fault.recipe is recipe]
        trials = Trials(recipe, of_recipe, root, options.seed) if of_recipe else None
        for fault in of_recipe:
            assert trials is not None
            started = time.monotonic()
            states[fault.name], note = trials.attempt(fault)
            print(f"{fault.name:60} {states[fault.name]:9} {time.monotonic() - started:4.0f} s  {note}", flush=True)  # noqa: T201
    print(f"\n{table(states)}")  # noqa: T201
    return int(LOST in states.values())


if __name__ == "__main__":
    sys.exit(main())
