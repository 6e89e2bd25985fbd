"""Running a recipe: each stage in order, skipped where it is done, gone on with where it was stopped."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from camshaft.engine.data import DataSet, open_data
from camshaft.engine.errors import StoreError
from camshaft.engine.pipeline import fingerprint, record
from camshaft.engine.pipeline.lock import locked
from camshaft.engine.pipeline.plan import check_stages, stage_folder
from camshaft.engine.pipeline.prepare import STAGES, PreparedData, now, prepare
from camshaft.engine.pipeline.recipe import LoadedRecipe, Recipe
from camshaft.engine.recipe.show import to_yaml
from camshaft.engine.runtime.console import Console
from camshaft.engine.runtime.devices import device_name, select_device
from camshaft.engine.runtime.files import remove_leftovers, write_bytes, write_json
from camshaft.engine.runtime.memory import PeakMemory
from camshaft.engine.runtime.parting import ending_together
from camshaft.engine.runtime.precision import Arithmetic, resolve
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.stop import StopFlag
from camshaft.engine.stages.stage import Stage, StageContext, StageOutput
from camshaft.kernels.choice import recorded

RUN_FILE = "run.json"


@dataclass(frozen=True)
class RunResult:
    """What a run left: its folder, and which stages ran now and which were complete before."""

    folder: Path
    data: DataSet
    ran: tuple[str, ...]
    complete_before: tuple[str, ...]


@dataclass
class _Run:
    """One run while it goes: what all its stages share, and what is complete so far."""

    loaded: LoadedRecipe
    folder: Path
    data: PreparedData
    ranks: Ranks
    console: Console
    stop: StopFlag
    threads: int
    device: torch.device
    arithmetic: Arithmetic
    arithmetic_reason: str
    outputs: dict[str, StageOutput] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)

    def stage_fingerprint(self, stage: Stage) -> str:
        inputs = {name: self.outputs[name].record["fingerprint"] for _, name, _ in stage.references()}
        recipe, base = self.loaded.recipe, self.loaded.base
        return fingerprint.of_stage(stage, inputs, recipe, self.data.data, base, self.arithmetic)

    def perform(self, stage: Stage) -> None:
        """Run `stage` unless it is complete, and add it to the outputs."""
        digest = self.stage_fingerprint(stage)
        folder = stage_folder(self.folder, stage.id, digest)
        done = self.ranks.agree(lambda: record.read(folder, digest))
        if done is not None:
            self.console.line(f"{stage.id}: complete ({done['seconds']:.0f} s on {done['finished'][:10]})")
        else:
            done = self._run(stage, folder, digest)
            self.ran.append(stage.id)
        self.ranks.agree(lambda: stage.tidy(folder))
        self.outputs[stage.id] = StageOutput(stage.id, folder, done)

    def _run(self, stage: Stage, folder: Path, digest: str) -> Mapping[str, Any]:
        resumed = self.ranks.agree(lambda: _begin(folder))
        self.console.line(f"{stage.id}: {'goes on' if resumed else 'starts'} ({stage.kind})")
        context = StageContext(
            folder=folder,
            base=self.loaded.base,
            data=self.data.data,
            inspection=self.data.inspection,
            inputs={name: self.outputs[name] for _, name, _ in stage.references()},
            seed=(self.loaded.recipe.seed, stage.id),
            arithmetic=self.arithmetic,
            device=self.device,
            threads=self.threads,
            ranks=self.ranks,
            console=self.console,
            stop=self.stop,
        )
        started, clock = now(), time.monotonic()
        with PeakMemory() as memory, recorded() as kernels:
            figures = stage.run(context)
        values = {
            "id": stage.id,
            "kind": stage.kind,
            "produces": str(stage.produces),
            "fingerprint": digest,
            "settings": stage.model_dump(mode="json"),
            "inputs": {name: output.record["fingerprint"] for name, output in context.inputs.items()},
            "data": self.data.fingerprint,
            "supervision": supervision(stage, context.inputs),
            "device": device_name(self.device),
            "precision": self.arithmetic,
            "precision_reason": self.arithmetic_reason,
            "ranks": self.ranks.world_size,
            "threads": self.threads,
            "resumed": resumed,
            "started": started,
            "finished": now(),
            "seconds": round(time.monotonic() - clock, 2),
            "peak_memory_bytes": memory.bytes,
            "kernels": dict(kernels),
            "notes": context.notes,
            "figures": figures,
            **record.environment(),
        }
        complete = self.ranks.agree(lambda: record.write(folder, values))
        self.console.line(f"{stage.id}: done in {complete['seconds']:.0f} s")
        return complete


def run(loaded: LoadedRecipe, folder: Path, *, ranks: Ranks, console: Console, stop: StopFlag) -> RunResult:
    """Run a recipe in `folder`; a run that is complete does nothing but say so.

    Args:
        loaded: the checked recipe.
        folder: the run's folder; results of earlier runs in it are used where their fingerprints fit.
        ranks: this process among its peers; all of them call this.
        console: where progress is shown.
        stop: set when the run has been asked to stop.

    Raises:
        CamshaftError: a user's mistake, or a fault that the message names.
        Stopped: the run was asked to stop; its place is saved.
    """
    with together(folder, ranks, loaded.recipe.rank_timeout_minutes):
        prepared = prepare(loaded, open_data(loaded.recipe.data, loaded.base), folder / STAGES, ranks, console)
        check_stages(loaded, prepared.data, ranks)
        return perform_stages(loaded, prepared, folder, folder, ranks=ranks, console=console, stop=stop)


@contextmanager
def together(folder: Path, ranks: Ranks, timeout_minutes: float) -> Iterator[None]:
    """Work of all ranks in a folder that is theirs alone meanwhile; if one is lost, all end and say which.

    Raises:
        CamshaftError: another run is at work in the folder, or nothing can be written there.
        RankLostError: another rank is lost, or did not come to where all meet for so many minutes.
    """
    if ranks.world_size > 1:
        ranks.join(timedelta(minutes=timeout_minutes))
    with ending_together(ranks), ExitStack() as held:
        ranks.agree(lambda: held.enter_context(locked(folder)))
        yield


def data_of_run(folder: Path) -> DataSet:
    """The data set of a run that is complete.

    Args:
        folder: where its run.json is.

    Raises:
        StoreError: the folder holds no complete run.
        DataError: the data are not where they were.
    """
    path = folder / RUN_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        recipe, base = Recipe.model_validate(values["recipe"]), Path(values["base"])
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}: {folder} holds no complete run") from None
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{path}: not the record of a run of this version; run its recipe again") from None
    return open_data(recipe.data, base)


def perform_stages(
    loaded: LoadedRecipe,
    prepared: PreparedData,
    folder: Path,
    records: Path,
    *,
    ranks: Ranks,
    console: Console,
    stop: StopFlag,
) -> RunResult:
    """Run a recipe whose data and stages have been checked, in a folder that is locked.

    Args:
        loaded: the checked recipe.
        prepared: its data.
        folder: the run's folder, of which the stages' folders are part.
        records: where recipe.yaml and run.json go: `folder`, or a folder in it for each of several recipes.
        ranks: this process among its peers; all of them call this.
        console: where progress is shown.
        stop: set when the run has been asked to stop.

    Raises:
        CamshaftError: as `run` says.
    """
    clock = time.monotonic()
    threads = max(1, len(os.sched_getaffinity(0)) // ranks.local_world_size)
    torch.set_num_threads(threads)
    device = select_device(ranks)
    state = _Run(
        loaded, folder, prepared, ranks, console, stop, threads, device, *resolve(loaded.recipe.precision, device)
    )
    ranks.agree(lambda: write_bytes(records / "recipe.yaml", to_yaml(loaded.recipe).encode()))
    stages = loaded.recipe.ordered()
    for stage in stages:
        state.perform(stage)
        with ranks.failing_together():
            stop.raise_if_set()
    summary = record.as_json(_summary(state, stages, time.monotonic() - clock))
    ranks.agree(lambda: write_json(records / RUN_FILE, summary))
    complete_before = tuple(stage.id for stage in stages if stage.id not in state.ran)
    return RunResult(folder, state.data.data, tuple(state.ran), complete_before)


def _begin(folder: Path) -> bool:
    """Make a stage's folder, cleared of what killed processes left; return whether it was begun before."""
    begun = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    return begun


def _summary(state: _Run, stages: list[Stage], seconds: float) -> dict[str, Any]:
    recipe, splits = state.loaded.recipe, state.data.inspection.splits
    return {
        "name": recipe.name,
        "description": recipe.description,
        "origin": str(Path(state.loaded.origin).resolve()),
        "base": str(state.loaded.base.resolve()),
        "preset": state.loaded.preset,
        "recipe": recipe.model_dump(mode="json"),
        "classes": list(state.data.data.classes),
        "data": {
            "kind": recipe.data.kind,
            "fingerprint": state.data.fingerprint,
            "splits": {split: len(found.ids) for split, found in splits.items()},
            "skipped": [
                {"split": split, "id": one.image_id, "reason": one.reason}
                for split, found in splits.items()
                for one in found.skipped
            ],
        },
        "stages": [
            {
                "id": stage.id,
                "kind": stage.kind,
                "folder": state.outputs[stage.id].folder.relative_to(state.folder).as_posix(),
                "fingerprint": state.outputs[stage.id].record["fingerprint"],
            }
            for stage in stages
        ],
        "seconds": round(seconds, 2),
    }


def supervision(stage: Stage, inputs: Mapping[str, StageOutput]) -> list[str]:
    """What the stage's result has learnt from: its own supervision and that of all its inputs."""
    own = {str(item) for item in stage.supervision()}
    return sorted(own.union(*(output.record["supervision"] for output in inputs.values())))
