"""The mIoU table that ends a run on the terminal."""

from collections.abc import Callable
from pathlib import Path

from rich.table import Table
from rich.text import Text

from camshaft.engine.report.records import Result, Run, read_run
from camshaft.engine.report.wording import number, percent

UNLABELLED_SHARE = 5e-4
"""Coverage is shown where at least this share of the pixels carries no label: less is 100.0 % when written down."""


def partly_labelled(run: Run) -> bool:
    """True if some result leaves pixels without a label, so that coverage belongs beside its mIoU."""
    return any(1 - result.row.coverage >= UNLABELLED_SHARE for result in run.results)


def summary_table(run_folder: Path) -> Table:
    """mIoU of every evaluated result, in the order of the recipe.

    Raises:
        StoreError: the folder holds no complete run.
    """
    run = read_run(run_folder)
    columns: list[tuple[str, Callable[[Result], str]]] = [("mIoU", lambda result: percent(result.row.miou))]
    if any(result.row.threshold is not None for result in run.results):
        columns.append(("threshold", fixed_threshold))
    if swept := any(result.row.sweep for result in run.results):
        columns.append(("best of sweep*", best_of_sweep))
    if partly_labelled(run):
        columns.append(("labelled", lambda result: f"{percent(result.row.coverage)} %"))
    columns.append(("images", lambda result: f"{result.row.images:,}"))

    table = Table(title=Text(f"{run.record.name}: mIoU in %"), title_justify="left", header_style="bold")
    table.add_column("result", overflow="fold")
    table.add_column("split")
    for heading, _ in columns:
        table.add_column(heading, justify="right")
    for result in run.results:
        cells = [result.row.name, result.split, *(cell(result) for _, cell in columns)]
        table.add_row(*(Text(cell) for cell in cells))
    if swept:
        table.caption = "* found on ground truth: for reading only"
        table.caption_justify = "left"
    return table


def fixed_threshold(result: Result) -> str:
    """The threshold that the recipe fixed; nothing where none is used."""
    return "" if result.row.threshold is None else number(result.row.threshold)


def best_of_sweep(result: Result) -> str:
    """The best mIoU of a sweep and its threshold; nothing where there was no sweep."""
    sweep = result.row.sweep
    if sweep is None or sweep.best_miou is None:
        return ""
    return f"{percent(sweep.best_miou)} at {number(sweep.best_threshold)}"
