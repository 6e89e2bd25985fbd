"""A sweep's figures side by side: one table, a line for each variant."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from camshaft.engine.errors import StoreError
from camshaft.engine.pipeline.sweep import SWEEP_FILE, SWEEPS, records_folder
from camshaft.engine.report.records import Record, Run, read_json, read_record, read_run
from camshaft.engine.report.wording import MISSING, number, percent

ACCURACY = "accuracy"
"""The figure of a stage that is in the table unasked, beside every mIoU."""


class VariantRecord(Record):
    """A variant, as sweep.json names it."""

    name: str
    description: str = ""


class SweepRecord(Record):
    """sweep.json."""

    name: str
    description: str = ""
    columns: tuple[str, ...] | None = None
    variants: tuple[VariantRecord, ...]


@dataclass(frozen=True)
class SweepRuns:
    """A complete sweep and the run of each of its variants, in their order."""

    folder: Path
    records: Path
    record: SweepRecord
    runs: Mapping[str, Run]


@dataclass(frozen=True)
class Column:
    """One figure of all variants; None where a variant has none."""

    name: str
    values: tuple[float | None, ...]
    is_share: bool
    """True of mIoU and accuracy, which are in 0 … 1 and the better the greater."""

    def words(self, position: int) -> str:
        """A value as tables print it: shares in per cent."""
        value = self.values[position]
        return percent(value) if self.is_share else number(value)

    def is_best(self, position: int) -> bool:
        """True if no other variant's share is printed as a greater one."""
        best = max((value for value in self.values if value is not None), default=None)
        return self.is_share and best is not None and self.words(position) == percent(best)


def read_sweep(folder: Path, name: str | None = None) -> SweepRuns:
    """Read the records of a sweep.

    Args:
        folder: the run's folder.
        name: which of its sweeps; None where there is one alone.

    Raises:
        StoreError: there is no such sweep, it is not complete, or its records are damaged.
    """
    found = sorted(path.parent.name for path in (folder / SWEEPS).glob(f"*/{SWEEP_FILE}"))
    if not found:
        raise StoreError(f"{folder}: holds no sweep that has come to its end")
    if name is None and len(found) > 1:
        raise StoreError(f"{folder}: holds several sweeps, name one of them: {', '.join(found)}")
    if name is not None and name not in found:
        raise StoreError(f"{folder}: holds no complete sweep {name!r}; there are {', '.join(found)}")
    records = records_folder(folder, name or found[0])
    path = records / SWEEP_FILE
    record = read_record(SweepRecord, read_json(path, "the sweep has not come to its end"), path)
    runs = {variant.name: read_run(folder, records / variant.name) for variant in record.variants}
    return SweepRuns(folder, records, record, runs)


def columns(sweep: SweepRuns) -> tuple[Column, ...]:
    """The figures that the sweep asks for; else every mIoU, and the accuracy of every stage that has one."""
    asked = sweep.record.columns
    if asked is None:
        return (*_results(sweep, None), *_figures(sweep, ACCURACY))
    found: list[Column] = []
    for name in asked:
        stage, _, figure = name.partition(".")
        found += [_figure(sweep, stage, figure)] if figure else _results(sweep, stage)
    return tuple(found)


def unknown_columns(sweep: SweepRuns, found: Sequence[Column]) -> list[str]:
    """A line for each column that no variant has a value for, with what there is."""
    lines = []
    for column in found:
        if not any(value is not None for value in column.values):
            stage = column.name.partition(".")[0]
            known = dict.fromkeys(name for run in sweep.runs.values() for name in _numbers(run, stage))
            lines.append(f"columns.{column.name}: no variant has it; {stage} has {', '.join(known) or 'no figures'}")
    return lines


def differences(sweep: SweepRuns) -> dict[str, tuple[Any, ...]]:
    """The settings in which variants differ: path to the value of each variant, None where it has none."""
    flat = [dict(_leaves(_by_id(run.record.recipe), "")) for run in sweep.runs.values()]
    paths = dict.fromkeys(path for values in flat for path in values)
    found = {path: tuple(values.get(path) for values in flat) for path in paths}
    return {
        path: values
        for path, values in found.items()
        if any(value != values[0] for value in values) and path != "description"
    }


def comparison_table(sweep: SweepRuns) -> Table:
    """The table that ends a sweep on the terminal."""
    found = columns(sweep)
    table = Table(title=Text(f"{sweep.record.name}: mIoU and accuracy in %"), title_justify="left", header_style="bold")
    table.add_column("variant", overflow="fold")  # a name that is cut could be another's
    for column in found:
        table.add_column(Text(column.name), justify="right", overflow="fold")
    for position, name in enumerate(sweep.runs):
        cells = [Text(column.words(position), "bold" if column.is_best(position) else "") for column in found]
        table.add_row(Text(name), *cells)
    return table


def as_csv(sweep: SweepRuns) -> str:
    """The table as CSV, figures in full; shares are in 0 … 1."""
    found = columns(sweep)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["variant", *(column.name for column in found)])
    for position, name in enumerate(sweep.runs):
        values = [column.values[position] for column in found]
        writer.writerow([name, *("" if value is None else repr(value) for value in values)])
    return text.getvalue()


def as_json(sweep: SweepRuns) -> dict[str, Any]:
    """The table as JSON values: for each variant the settings that tell it from others, and its figures."""
    found, differing = columns(sweep), differences(sweep)
    return {
        "sweep": sweep.record.name,
        "columns": [column.name for column in found],
        "variants": [
            {
                "name": variant.name,
                "description": variant.description,
                "settings": {path: values[position] for path, values in differing.items()},
                "figures": {column.name: column.values[position] for column in found},
            }
            for position, variant in enumerate(sweep.record.variants)
        ],
    }


def setting_in_words(value: Any) -> str:
    """A setting as YAML would have it on one line."""
    if value is None:
        return MISSING
    if isinstance(value, list | tuple):
        return ", ".join(setting_in_words(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _results(sweep: SweepRuns, stage: str | None) -> list[Column]:
    """mIoU of all evaluated results, or of one stage's."""
    several = len({split for run in sweep.runs.values() for split in run.splits}) > 1
    by_variant: list[dict[str, float | None]] = []
    for run in sweep.runs.values():
        rows = [result for result in run.results if stage is None or result.row.of == stage]
        by_variant.append({f"{one.row.name} ({one.split})" if several else one.row.name: one.row.miou for one in rows})
    return _columns(by_variant, is_share=True)


def _figures(sweep: SweepRuns, figure: str) -> list[Column]:
    """One figure of every stage that has it."""
    stages = dict.fromkeys(stage.id for run in sweep.runs.values() for stage in run.stages)
    found = [_figure(sweep, stage, figure) for stage in stages]
    return [column for column in found if any(value is not None for value in column.values)]


def _figure(sweep: SweepRuns, stage: str, figure: str) -> Column:
    values = tuple(_numbers(run, stage).get(figure) for run in sweep.runs.values())
    return Column(f"{stage}.{figure}", values, figure.rpartition(".")[2] in (ACCURACY, "miou"))


def _columns(by_variant: Sequence[Mapping[str, float | None]], *, is_share: bool) -> list[Column]:
    names = dict.fromkeys(name for values in by_variant for name in values)
    return [Column(name, tuple(values.get(name) for values in by_variant), is_share) for name in names]


def _numbers(run: Run, stage_id: str) -> dict[str, float]:
    """All numbers among a stage's figures, by their path."""
    stage = run.stage(stage_id)
    if stage is None:
        return {}
    return {
        path: value
        for path, value in _leaves(stage.record.figures, "")
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All that is no mapping, with its dotted path."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else str(name))
    else:
        yield path, value


def _by_id(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe whose stages go by their ids."""
    return {**recipe, "stages": {stage["id"]: stage for stage in recipe.get("stages", ())}}
