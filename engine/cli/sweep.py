"""`camshaft sweep`: all variants of a recipe in one folder, and one table of them."""

from collections.abc import Sequence
from pathlib import Path

from camshaft.engine.cli.run import RUNS, set_up_logging
from camshaft.engine.pipeline.sweep import SweepResult, plan_sweep, run_sweep
from camshaft.engine.pipeline.variants import LoadedSweep, load_sweep
from camshaft.engine.report.comparison import columns, comparison_table, read_sweep, unknown_columns
from camshaft.engine.report.comparison_page import write_comparison
from camshaft.engine.runtime.console import Console
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.stop import StopFlag, stopping_on_signals


def sweep_command(file: Path, overrides: Sequence[str], out: Path | None, *, verbose: bool) -> int:
    """Run a sweep, then print its table and the path of its page."""
    ranks = Ranks.from_environment()
    console = Console(enabled=ranks.is_first)
    set_up_logging(console, verbose=verbose)
    sweep = load_sweep(file, overrides)
    folder = out or RUNS / sweep.name
    console.line(f"{sweep.name}: {len(sweep.variants)} variants, in {folder}")
    try:
        with stopping_on_signals(StopFlag()) as stop:
            result = run_sweep(sweep, folder, ranks=ranks, console=console, stop=stop)
        if ranks.is_first:
            _conclude(sweep, folder, result, console)
    finally:
        ranks.leave()
    return 0


def plan_sweep_command(file: Path, overrides: Sequence[str], out: Path | None) -> int:
    """Say, by variant, which stages are complete, which would run, and which an earlier variant makes."""
    console = Console()
    sweep = load_sweep(file, overrides)
    folder = out or RUNS / sweep.name
    console.line(f"{sweep.name}: {len(sweep.variants)} variants, in {folder}")
    made_by: dict[Path, str] = {}
    for variant, stages in plan_sweep(sweep, folder).items():
        console.line(f"variant {variant}")
        for stage in stages:
            maker = made_by.setdefault(stage.folder, variant)
            state = stage.state if maker == variant or stage.state == "complete" else f"as in {maker}"
            console.line(f"  {stage.id}: {state} ({stage.kind}, {stage.folder.name})")
    return 0


def _conclude(sweep: LoadedSweep, folder: Path, result: SweepResult, console: Console) -> None:
    complete = read_sweep(folder, sweep.name)
    page = write_comparison(complete)
    if not result.ran:
        console.line(f"{sweep.name}: nothing to do, all variants are complete")
    for line in unknown_columns(complete, columns(complete)):
        console.line(f"warning: {line}")
    console.show(comparison_table(complete))
    console.line(f"sweep: {page}")
