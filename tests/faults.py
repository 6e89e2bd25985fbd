"""Faults tried and survived, on two ranks: `python tests/faults.py [NAME …]`.

A small run is made undisturbed. Then, for each fault, a copy of it that lacks one stage is run again, and meets the
fault in that stage. It must end soon and say why; the same command must then end with the figures and the bytes of the
undisturbed run, and must not touch what was complete. Prints a table; the exit code is 0 where all were survived.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

sys.path.append(str(Path(__file__).parent))

from conftest import TINY

SOON_SECONDS = 240
RANKS = 2
LATER = 0.3
"""Seconds into a stage at which a fault comes."""
KILLED = ("ordinary", "cgnet", "maps", "crf", "labels", "deeplab", "prediction", "scores")


class LostError(AssertionError):
    """The fault was not survived."""


def demand(condition: object, message: str) -> None:
    if not condition:
        raise LostError(message)


@dataclass
class Run:
    """The processes of one run on two ranks."""

    processes: list[subprocess.Popen[str]]
    said: Path

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + SOON_SECONDS
        while text not in self.said.read_text():
            demand(time.monotonic() < end, f"nothing said {text!r}:\n{self.said.read_text()}")
            demand(self.processes[0].poll() is None, f"ended before {text!r}:\n{self.said.read_text()}")
            time.sleep(0.02)

    def end(self) -> tuple[list[int], str]:
        """Exit codes and what was said; who does not end soon is killed, and that is a loss."""
        end = time.monotonic() + SOON_SECONDS
        try:
            for process in self.processes:
                process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise LostError(f"did not end within {SOON_SECONDS} s:\n{self.said.read_text()}") from None
        finally:
            for process in self.processes:
                process.kill()
                process.wait()
        return [process.returncode for process in self.processes], self.said.read_text()


@dataclass
class Trial:
    """One fault: a run folder of its own, and the undisturbed run that it must come to."""

    whole: Path
    folder: Path
    recipe: Path
    notes: list[str] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.folder / "run"

    def begin_again_at(self, stage: str) -> None:
        shutil.copytree(self.whole, self.out)
        shutil.rmtree(self.stage(stage))
        (self.out / "run.json").unlink()

    def stage(self, stage: str) -> Path:
        (found,) = (self.out / "stages").glob(f"{stage}-*")
        return found

    def start(self, *, prefix: tuple[str, ...] = ()) -> Run:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            launched = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        said = self.folder / f"said-{len(list(self.folder.glob('said-*')))}.txt"
        command = [
            *prefix,
            sys.executable,
            "-m",
            "camshaft.engine.cli",
            "run",
            str(self.recipe),
            "--out",
            str(self.out),
        ]
        shared = {**os.environ, **launched, "WORLD_SIZE": str(RANKS), "LOCAL_WORLD_SIZE": str(RANKS)}
        shared |= {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": ""}
        with said.open("w") as file:
            processes = [
                subprocess.Popen(
                    command,
                    env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                for rank in range(RANKS)
            ]
        return Run(processes, said)

    def complete(self) -> dict[str, int]:
        """When each file of each complete stage was written."""
        folders = [path.parent for path in (self.out / "stages").glob("*/stage.json")]
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        return {str(path): path.stat().st_mtime_ns for path in files}

    def run_again(self) -> None:
        """The same command once more: all is as in the undisturbed run, and what was complete was not touched."""
        before = self.complete()
        codes, said = self.start().end()
        demand(codes == [0] * RANKS, f"the run after the fault ended with {codes}:\n{said}")
        after = self.complete()
        touched = [path for path, when in before.items() if after.get(path) != when]
        demand(not touched, f"complete, but written again: {touched}")
        for stage in TINY["stages"]:
            name = stage["id"]
            demand(results(self.out, name) == results(self.whole, name), f"{name}: other results than undisturbed")


def results(run: Path, stage: str) -> tuple[Any, dict[str, bytes]]:
    """Figures, and the bytes of networks, maps and masks."""
    (folder,) = (run / "stages").glob(f"{stage}-*")
    made = [path for path in folder.rglob("*") if path.suffix in {".png", ".safetensors"} or "/c/" in path.as_posix()]
    figures = json.loads((folder / "stage.json").read_text())["figures"]
    return figures, {path.relative_to(folder).as_posix(): path.read_bytes() for path in made if path.is_file()}


def signalled(stage: str, number: signal.Signals, *, ranks: tuple[int, ...]) -> Callable[[Trial], None]:
    """A signal to some ranks while they are in a stage."""

    def fault(trial: Trial) -> None:
        trial.begin_again_at(stage)
        run = trial.start()
        run.wait_for(f"{stage}: starts")
        time.sleep(random.uniform(0, LATER))
        for rank in ranks:
            run.processes[rank].send_signal(number)
        codes, said = run.end()
        if codes == [0] * RANKS:
            trial.notes.append("came too late, the stage was done")
        elif number == signal.SIGTERM:
            demand("stopped by" in said or "ended because" in said, said)
        elif len(ranks) < RANKS:
            demand(f"rank {ranks[0]} does not answer" in said, f"nobody named rank {ranks[0]}:\n{said}")

    return fault


def hangs(trial: Trial) -> None:
    """A rank stands still; after the time limit the other one names it."""
    trial.begin_again_at("deeplab")
    text = trial.recipe.read_text()
    trial.recipe.write_text(f"{text}rank_timeout_minutes: 0.5\n")
    run = trial.start()
    run.wait_for("deeplab: starts")
    run.processes[1].send_signal(signal.SIGSTOP)
    try:
        run.processes[0].wait(SOON_SECONDS)
    finally:
        for process in run.processes:
            process.kill()
    said = run.end()[1]
    trial.recipe.write_text(text)
    demand("rank 1 does not answer" in said, f"nobody named rank 1:\n{said}")


def disk_full(trial: Trial) -> None:
    """No file may grow beyond 100 kB while the network is trained and written: it is larger."""
    trial.begin_again_at("ordinary")
    limited = "import os, resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)"
    limited += "; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); os.execv(sys.argv[1], sys.argv[1:])"
    codes, said = trial.start(prefix=(sys.executable, "-c", limited)).end()
    demand(0 not in codes, f"ended with {codes} though its files could not be written:\n{said}")
    demand("could not be written" in said or "File too large" in said, said)


def checkpoint(damage: Callable[[Path], None]) -> Callable[[Trial], None]:
    """The newest checkpoint is damaged after all ranks were killed."""

    def fault(trial: Trial) -> None:
        trial.begin_again_at("ordinary")
        run = trial.start()
        end = time.monotonic() + SOON_SECONDS
        while not (found := sorted((trial.out / "stages").glob("ordinary-*/checkpoints/step-*/manifest.json"))):
            demand(time.monotonic() < end and run.processes[0].poll() is None, "no checkpoint was seen")
            time.sleep(0.01)
        for process in run.processes:
            process.kill()
        run.end()
        newest = max(trial.stage("ordinary").glob("checkpoints/step-*/state.safetensors"), default=found[-1])
        damage(newest)

    return fault


def stored(damage: Callable[[Path], None], stage: str, pattern: str) -> Callable[[Trial], None]:
    """A file of a complete stage is damaged: that is said, and nothing is taken from it."""

    def fault(trial: Trial) -> None:
        trial.begin_again_at("crf" if stage == "maps" else "prediction")
        damage(max(trial.stage(stage).rglob(pattern), key=lambda path: path.stat().st_size))
        codes, said = trial.start().end()
        demand(0 not in codes, f"ended with {codes} though {stage} is damaged:\n{said}")
        demand(str(trial.stage(stage)) in said, f"nobody named {trial.stage(stage)}:\n{said}")
        shutil.rmtree(trial.stage(stage))

    return fault


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


FAULTS: dict[str, Callable[[Trial], None]] = {
    **{f"kill_one_in_{stage}": signalled(stage, signal.SIGKILL, ranks=(1,)) for stage in KILLED},
    **{f"kill_all_in_{stage}": signalled(stage, signal.SIGKILL, ranks=(0, 1)) for stage in KILLED},
    "kill_the_first": signalled("deeplab", signal.SIGKILL, ranks=(0,)),
    "terminate_all": signalled("ordinary", signal.SIGTERM, ranks=(0, 1)),
    "terminate_one": signalled("cgnet", signal.SIGTERM, ranks=(1,)),
    "hang": hangs,
    "disk_full": disk_full,
    "checkpoint_truncated": checkpoint(truncate),
    "checkpoint_flipped": checkpoint(flip),
    "shard_truncated": stored(truncate, "maps", "c/*"),
    "shard_flipped": stored(flip, "maps", "c/*"),
    "network_truncated": stored(truncate, "deeplab", "network.safetensors"),
    "network_flipped": stored(flip, "deeplab", "network.safetensors"),
}


def attempt(name: str, whole: Path, root: Path) -> tuple[str, str]:
    folder = root / name
    folder.mkdir()
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(dict(TINY), sort_keys=False))
    trial = Trial(whole, folder, recipe)
    try:
        FAULTS[name](trial)
        trial.run_again()
    except LostError as lost:
        return "LOST", str(lost)
    shutil.rmtree(folder)
    return "survived", "; ".join(trial.notes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which faults (default: all): {', '.join(FAULTS)}")
    parser.add_argument("--folder", type=Path, help="work here, and keep the undisturbed run for another time")
    options = parser.parse_args()
    if unknown := set(options.names) - FAULTS.keys():
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    root = options.folder or Path(tempfile.mkdtemp())
    root.mkdir(exist_ok=True)
    undisturbed = root / "undisturbed"
    undisturbed.mkdir(exist_ok=True)
    (undisturbed / "recipe.yaml").write_text(yaml.safe_dump(dict(TINY), sort_keys=False))
    trial = Trial(undisturbed / "run", undisturbed, undisturbed / "recipe.yaml")
    if not (trial.out / "run.json").exists():
        codes, said = trial.start().end()
        demand(codes == [0] * RANKS, said)
    found = {}
    for name in options.names or FAULTS:
        started = time.monotonic()
        found[name], note = attempt(name, trial.out, root)
        print(f"{name:24} {found[name]:8} {time.monotonic() - started:5.0f} s  {note}", flush=True)  # noqa: T201
    survived = sum(state == "survived" for state in found.values())
    print(f"{len(found)} faults tried, {survived} survived")  # noqa: T201
    return 0 if survived == len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
