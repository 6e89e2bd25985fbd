"""Running a sweep: all variants in one folder, so that a stage which several of them share is computed once."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from camshaft.engine.data import DataSet, open_data
from camshaft.engine.errors import RecipeError
from camshaft.engine.pipeline.plan import PlannedStage, check_stages, plan
from camshaft.engine.pipeline.prepare import STAGES, PreparedData, prepare
from camshaft.engine.pipeline.recipe import LoadedRecipe
from camshaft.engine.pipeline.run import RunResult, perform_stages, together
from camshaft.engine.pipeline.variants import LoadedSweep, Variant
from camshaft.engine.runtime.console import Console
from camshaft.engine.runtime.files import write_json
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.stop import StopFlag

SWEEPS = "sweeps"
SWEEP_FILE = "sweep.json"


@dataclass(frozen=True)
class SweepResult:
    """What a sweep left: the folder of its records, and what each variant's run did."""

    folder: Path
    runs: dict[str, RunResult]

    @property
    def ran(self) -> tuple[str, ...]:
        """The stages that ran now, as VARIANT.STAGE."""
        return tuple(f"{name}.{stage}" for name, run in self.runs.items() for stage in run.ran)


def records_folder(folder: Path, sweep: str) -> Path:
    """Where the records of a sweep are, in a run's folder: sweep.json, the table, and a folder a variant."""
    return folder / SWEEPS / sweep


def run_sweep(sweep: LoadedSweep, folder: Path, *, ranks: Ranks, console: Console, stop: StopFlag) -> SweepResult:
    """Run all variants of a sweep in `folder`, one after the other; what is complete is not run again.

    Args:
        sweep: the checked sweep.
        folder: the run's folder, which other sweeps and runs of the same recipe may share.
        ranks: this process among its peers; all of them call this.
        console: where progress is shown.
        stop: set when the sweep has been asked to stop.

    Raises:
        CamshaftError: something is wrong with one of the variants' data or stages, before any of them runs; or as
            `run` says.
        Stopped: the sweep was asked to stop; its place is saved.
    """
    clock = time.monotonic()
    records = records_folder(folder, sweep.name)
    runs: dict[str, RunResult] = {}
    patience = max(variant.loaded.recipe.rank_timeout_minutes for variant in sweep.variants)
    with together(folder, ranks, patience):
        data = _prepared(sweep, folder, ranks, console)
        for number, variant in enumerate(sweep.variants, 1):
            console.line(f"variant {variant.name} ({number} of {len(sweep.variants)})")
            runs[variant.name] = perform_stages(
                variant.loaded,
                data[variant.name],
                folder,
                records / variant.name,
                ranks=ranks,
                console=console,
                stop=stop,
            )
        summary = _summary(sweep, time.monotonic() - clock)
        ranks.agree(lambda: write_json(records / SWEEP_FILE, summary))
    return SweepResult(records, runs)


def plan_sweep(sweep: LoadedSweep, folder: Path) -> dict[str, list[PlannedStage]]:
    """What a sweep would do, by variant, without doing it.

    Raises:
        CamshaftError: something is wrong already.
    """
    planned = {}
    for variant, data, _ in _with_data(sweep):
        with _variant_named(variant):
            planned[variant.name] = plan(variant.loaded, folder, data)
    return planned


def _prepared(sweep: LoadedSweep, folder: Path, ranks: Ranks, console: Console) -> dict[str, PreparedData]:
    """The data of every variant; what would stop any of them is found here."""
    prepared: dict[str, PreparedData] = {}
    for variant, data, is_first in _with_data(sweep):
        told = console if is_first else Console(enabled=False)  # data that several variants share have one line
        prepared[variant.name] = prepare(variant.loaded, data, folder / STAGES, ranks, told)
        with _variant_named(variant):
            check_stages(variant.loaded, data, ranks)
    return prepared


def _with_data(sweep: LoadedSweep) -> Iterator[tuple[Variant, DataSet, bool]]:
    """Each variant, its data, which are opened once for all that share them, and whether it is the first of these."""
    opened: list[tuple[LoadedRecipe, DataSet]] = []
    for variant in sweep.variants:
        loaded = variant.loaded
        found = next((data for other, data in opened if _have_one_data_set(other, loaded)), None)
        data = open_data(loaded.recipe.data, loaded.base) if found is None else found
        opened.append((loaded, data))
        yield variant, data, found is None


def _have_one_data_set(one: LoadedRecipe, other: LoadedRecipe) -> bool:
    return (one.recipe.data, one.base) == (other.recipe.data, other.base)


@contextmanager
def _variant_named(variant: Variant) -> Iterator[None]:
    try:
        yield
    except RecipeError as error:
        raise RecipeError(f"variant {variant.name}: {error}") from None


def _summary(sweep: LoadedSweep, seconds: float) -> dict[str, object]:
    return {
        "name": sweep.name,
        "description": sweep.description,
        "origin": str(Path(sweep.origin).resolve()),
        "columns": None if sweep.columns is None else list(sweep.columns),
        "variants": [{"name": variant.name, "description": variant.description} for variant in sweep.variants],
        "seconds": round(seconds, 2),
    }
