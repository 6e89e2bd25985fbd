"""A run on two ranks that is disturbed, and run again: what `faults.py` does its faults to."""

import importlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import yaml

from camshaft.engine.cli.main import main
from camshaft.engine.errors import StoreError
from camshaft.engine.training.checkpoints import read_manifest

RANKS = 2
SOON_SECONDS = 240
LATER_SECONDS = (0.3, 0.1, 0.03, 0, 0, 0)
"""Time within which a fault comes, from when a stage leaves first results; less for each time that it came too late."""
LIBRARIES = ("camshaft.engine.cli.run", "deepspeed", "torch.utils.tensorboard")
"""What takes long to import, in this process once: ranks are forks of it."""
INPUTS = ("guide", "network", "maps", "crf", "labels", "of")
"""Settings by which a stage names others."""


class LostError(AssertionError):
    """The fault was not survived."""


class NotTriedError(Exception):
    """The fault can't be done on this machine."""


def demand(condition: object, message: str) -> None:
    if not condition:
        raise LostError(message)


def only(recipe: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """The recipe with the stages that are wanted, and those that they need."""
    kept: list[dict[str, Any]] = []
    needed = set(wanted)
    for stage in reversed(recipe["stages"]):
        if stage["id"] in needed:
            kept.insert(0, stage)
            for value in (stage[name] for name in INPUTS if name in stage):
                needed |= {value} if isinstance(value, str) else set(value)
    return {**recipe, "stages": kept}


@dataclass
class Run:
    """The processes of one run on two ranks."""

    processes: list[BaseProcess]
    said: Path

    def text(self) -> str:
        return self.said.read_text(encoding="utf-8")

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + SOON_SECONDS
        while text not in self.text():
            demand(time.monotonic() < end, f"nothing said {text!r}:\n{self.text()}")
            demand(self.processes[0].is_alive(), f"ended before {text!r}:\n{self.text()}")
            time.sleep(0.005)

    def end(self, ranks: Sequence[int] = range(RANKS)) -> tuple[list[int], str]:
        """Exit codes of `ranks`, and what was said; one that does not end soon is a loss. The others are killed."""
        end = time.monotonic() + SOON_SECONDS
        for rank in ranks:
            self.processes[rank].join(max(0.1, end - time.monotonic()))
        codes = [self.processes[rank].exitcode for rank in ranks]
        for process in self.processes:
            process.kill()
            process.join()
        demand(None not in codes, f"ended with {codes}, None not within {SOON_SECONDS} s:\n{self.text()}")
        return [code for code in codes if code is not None], self.text()


def import_libraries() -> None:
    for name in LIBRARIES:
        importlib.import_module(name)


def rank_of(command: Sequence[str], environment: Mapping[str, str], said: Path) -> None:
    """One rank's process."""
    with said.open("a", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8")
    os.environ.update(environment)
    sys.exit(main(command))


@dataclass
class Trial:
    """One fault: a run folder of its own, and the undisturbed run that it must come to."""

    recipe: Mapping[str, Any]
    whole: Path
    """The undisturbed run."""
    folder: Path
    chance: random.Random
    half_done: int = 0
    """Results of the stage that was disturbed which may be written again: those of images that were half done."""

    @property
    def out(self) -> Path:
        return self.folder / "run"

    def stage(self, stage: str) -> Path:
        (found,) = (self.out / "stages").glob(f"{stage}-*")
        return found

    def begin_again_at(self, stage: str) -> None:
        """Copy the undisturbed run, but for one stage."""
        # An image has a mask for each α of the CRF, and prediction takes two images at once.
        self.half_done = RANKS if self._kind(stage) in ("crf", "predict") else 0
        if self.out.is_mount():
            for path in self.out.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        else:
            shutil.rmtree(self.out, ignore_errors=True)
        shutil.copytree(self.whole, self.out, dirs_exist_ok=True)
        shutil.rmtree(self.stage(stage))
        (self.out / "run.json").unlink()

    def start(self, **changes: Any) -> Run:
        """The run's command on each rank; `changes` are to the recipe."""
        recipe = self.folder / "recipe.yaml"
        recipe.write_text(yaml.safe_dump({**self.recipe, **changes}, sort_keys=False), encoding="utf-8")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            launched = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        launched |= {"WORLD_SIZE": str(RANKS), "LOCAL_WORLD_SIZE": str(RANKS)}
        said = self.folder / f"said-{len(list(self.folder.glob('said-*')))}.txt"
        said.touch()
        command = ["run", str(recipe), "--out", str(self.out)]
        processes: list[BaseProcess] = [
            multiprocessing.get_context("fork").Process(
                target=rank_of, args=(command, {**launched, "RANK": str(rank), "LOCAL_RANK": str(rank)}, said)
            )
            for rank in range(RANKS)
        ]
        for process in processes:
            process.start()
        return Run(processes, said)

    def signal_in(
        self, stage: str, number: signal.Signals, ranks: Sequence[int], **changes: Any
    ) -> tuple[list[int], str]:
        """Run again from `stage` on, and signal some ranks while it is half done; how the run ended, less ranks that
        were stopped."""
        for later in LATER_SECONDS:
            self.begin_again_at(stage)
            run = self.start(**changes)
            run.wait_for(f"{stage}: starts")
            self._wait_for_results(run, stage)
            time.sleep(self.chance.uniform(0, later))
            for rank in ranks:
                os.kill(run.processes[rank].pid or 0, number)
            halted = ranks if number == signal.SIGSTOP else ()
            codes, said = run.end([rank for rank in range(RANKS) if rank not in halted])
            if not (self.stage(stage) / "stage.json").exists():
                return codes, said
        raise LostError(f"came too late {len(LATER_SECONDS)} times: {stage} was done")

    def _wait_for_results(self, run: Run, stage: str) -> None:
        """Until a stage has left something that outlives it; evaluation leaves nothing."""
        while self._kind(stage) != "evaluate" and not (self.parts(stage) or self.saved_step(stage)):
            if not run.processes[0].is_alive() or f"{stage}: done" in run.text():
                return
            time.sleep(0.002)

    def _kind(self, stage: str) -> str:
        (kind,) = (one["kind"] for one in self.recipe["stages"] if one["id"] == stage)
        return str(kind)

    def parts(self, stage: str) -> list[Path]:
        """Maps and masks that a stage has written."""
        # os.walk, since it goes on where a folder is renamed meanwhile
        walks = (os.walk(folder) for folder in (self.out / "stages").glob(f"{stage}-*"))
        found = [Path(folder) / name for walk in walks for folder, _, names in walk for name in names]
        return [path for path in found if is_map_or_mask(path)]

    def saved_step(self, stage: str) -> int:
        """The step of a training's newest whole checkpoint; 0 for none."""
        for path in sorted((self.out / "stages").glob(f"{stage}-*/checkpoints/step-*"), reverse=True):
            try:
                return int(read_manifest(path)["place"]["step"])
            except (StoreError, OSError):
                continue
        return 0

    def run_again(self) -> None:
        """The same command once more: all is as in the undisturbed run, and what was complete was not touched."""
        complete = {path: path.stat().st_mtime_ns for path in self._complete()}
        ids = [stage["id"] for stage in self.recipe["stages"]]
        parts = {path: path.stat().st_mtime_ns for stage in ids for path in self.parts(stage) if path not in complete}
        logs = {stage: self._logged(stage, step) for stage in ids if (step := self.saved_step(stage))}
        codes, said = self.start().end()
        demand(codes == [0] * RANKS, f"the run after the fault ended with {codes}:\n{said}")
        touched = [path for path, when in complete.items() if not path.exists() or path.stat().st_mtime_ns != when]
        demand(not touched, f"complete, but written again: {touched}")
        touched = [path for path, when in parts.items() if path.stat().st_mtime_ns != when]
        demand(len(touched) <= self.half_done, f"made before the fault, but written again: {touched}")
        for stage, lines in logs.items():
            demand(self._logged(stage, len(lines)) == lines, f"{stage}: steps before its checkpoint were made again")
        for stage in ids:
            demand(results(self.out, stage) == results(self.whole, stage), f"{stage}: other results than undisturbed")

    def _complete(self) -> list[Path]:
        folders = [path.parent for path in (self.out / "stages").glob("*/stage.json")]
        return [path for folder in folders for path in folder.rglob("*") if path.is_file()]

    def _logged(self, stage: str, step: int) -> list[str]:
        """The first steps in a training's log, which notes every step with its speed."""
        return (self.stage(stage) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[:step]


def is_map_or_mask(path: Path) -> bool:
    whole = not path.name.startswith(".part-")
    return whole and (path.suffix == ".png" or path.parent.parts[-2:] == ("values", "c"))


def results(run: Path, stage: str) -> tuple[Any, dict[str, bytes]]:
    """Figures, and the bytes of networks, maps and masks."""
    (folder,) = (run / "stages").glob(f"{stage}-*")
    made = [path for path in folder.rglob("*") if path.suffix in {".png", ".safetensors"} or "/c/" in path.as_posix()]
    figures = json.loads((folder / "stage.json").read_text(encoding="utf-8"))["figures"]
    return figures, {path.relative_to(folder).as_posix(): path.read_bytes() for path in made if path.is_file()}
