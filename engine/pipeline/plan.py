"""What a run would do, and what would stop it, without doing it."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from camshaft.engine.data import DataSet, open_data
from camshaft.engine.errors import CamshaftError, RecipeError
from camshaft.engine.pipeline import fingerprint, record
from camshaft.engine.pipeline.lock import check_place
from camshaft.engine.pipeline.prepare import FOLDER_DIGITS, STAGES
from camshaft.engine.pipeline.recipe import LoadedRecipe
from camshaft.engine.recipe.check import report
from camshaft.engine.runtime.precision import resolve
from camshaft.engine.runtime.ranks import Ranks

State = Literal["complete", "begun", "to do"]


@dataclass(frozen=True)
class PlannedStage:
    """A stage as a run would find it."""

    id: str
    kind: str
    folder: Path
    state: State


def plan(loaded: LoadedRecipe, folder: Path, data: DataSet | None = None) -> list[PlannedStage]:
    """What a run would do, without doing it: the recipe, its data's lists and all stages are checked.

    Args:
        loaded: the recipe.
        folder: the run's.
        data: the recipe's, where they are open already.

    Raises:
        CamshaftError: something is wrong already.
    """
    check_place(folder)
    data = data or open_data(loaded.recipe.data, loaded.base)
    check_stages(loaded, data, Ranks())
    arithmetic, _ = resolve(loaded.recipe.precision)
    digests: dict[str, str] = {}
    planned = []
    for stage in loaded.recipe.ordered():
        inputs = {name: digests[name] for _, name, _ in stage.references()}
        digest = fingerprint.of_stage(stage, inputs, loaded.recipe, data, loaded.base, arithmetic)
        digests[stage.id] = digest
        place = stage_folder(folder, stage.id, digest)
        planned.append(PlannedStage(stage.id, stage.kind, place, _state(place, digest)))
    return planned


def _state(folder: Path, digest: str) -> State:
    if record.read(folder, digest) is not None:
        return "complete"
    return "begun" if folder.exists() else "to do"


def check_stages(loaded: LoadedRecipe, data: DataSet, ranks: Ranks) -> None:
    """Find what would stop a stage, in all stages, before the first one runs.

    Raises:
        RecipeError: what would, a line a stage.
    """
    problems = []
    kernels = logging.getLogger("camshaft.kernels")
    kernels.disabled = True  # networks are built without memory: which twins that takes says nothing about the run
    try:
        for stage in loaded.recipe.stages:
            try:
                stage.check(data.classes, loaded.base, ranks)
            except CamshaftError as error:
                problems.append(f"stages.{stage.id}: {error}")
    finally:
        kernels.disabled = False
    if problems:
        raise RecipeError(report(loaded.origin, problems))


def stage_folder(run_folder: Path, stage_id: str, digest: str) -> Path:
    """Where a stage with this fingerprint has its results."""
    return run_folder / STAGES / f"{stage_id}-{digest[:FOLDER_DIGITS]}"
