"""`camshaft run` and `camshaft report`: a recipe from tags to masks, its table of figures and its report."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from camshaft.engine.pipeline import fingerprint
from camshaft.engine.pipeline.plan import plan
from camshaft.engine.pipeline.recipe import LoadedRecipe, load
from camshaft.engine.pipeline.run import RUN_FILE, RunResult, data_of_run, run
from camshaft.engine.report import summary_table, write_report
from camshaft.engine.runtime.console import Console
from camshaft.engine.runtime.files import write_bytes
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.stop import StopFlag, stopping_on_signals

RUNS = Path("runs")


def run_command(recipe: Path, overrides: Sequence[str], out: Path | None, *, verbose: bool) -> int:
    """Run a recipe, then print the table of its figures and the path of its report."""
    ranks = Ranks.from_environment()
    console = Console(enabled=ranks.is_first)
    set_up_logging(console, verbose=verbose)
    loaded = load(recipe, overrides)
    folder = out or RUNS / loaded.recipe.name
    console.line(f"{loaded.recipe.name}: {len(loaded.recipe.stages)} stages, in {folder}")
    try:
        with stopping_on_signals(StopFlag()) as stop:
            result = run(loaded, folder, ranks=ranks, console=console, stop=stop)
        if ranks.is_first:
            _conclude(loaded, result, console)
    finally:
        ranks.leave()
    return 0


def plan_command(recipe: Path, overrides: Sequence[str], out: Path | None) -> int:
    """Say which stages are complete and which would run."""
    console = Console()
    loaded = load(recipe, overrides)
    folder = out or RUNS / loaded.recipe.name
    console.line(f"{loaded.recipe.name}: {len(loaded.recipe.stages)} stages, in {folder}")
    for stage in plan(loaded, folder):
        console.line(f"{stage.id}: {stage.state} ({stage.kind}, {stage.folder.name})")
    return 0


def report_command(folder: Path, images: int) -> int:
    """Write the report of a run again."""
    Console().line(f"report: {write_report(folder, data_of_run(folder), images)}")
    return 0


def set_up_logging(console: Console, *, verbose: bool) -> None:
    """Show camshaft's own lines of information and everybody's warnings; with `verbose`, everybody's information."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", handlers=[_ConsoleHandler(console)])
    logging.getLogger("camshaft").setLevel(logging.INFO)


class _ConsoleHandler(logging.Handler):
    """Log lines between lines of progress, each whole."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        self._console.line(prefix + self.format(record))


def _conclude(loaded: LoadedRecipe, result: RunResult, console: Console) -> None:
    report = result.folder / "report" / "index.html"
    digest = fingerprint.of_value(json.loads((result.folder / RUN_FILE).read_text(encoding="utf-8"))["stages"])
    shown = result.folder / "report" / "stages.sha256"
    if not report.exists() or not shown.exists() or shown.read_text(encoding="ascii").strip() != digest:
        report = write_report(result.folder, result.data)
        write_bytes(shown, f"{digest}\n".encode())
    if not result.ran:
        console.line(f"{loaded.recipe.name}: nothing to do, all {len(result.complete_before)} stages are complete")
    console.show(summary_table(result.folder))
    console.line(f"report: {report}")
