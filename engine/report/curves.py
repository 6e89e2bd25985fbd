"""Curves of a run: what each training logged, and mIoU over the background threshold."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from camshaft.engine.report.charts import Chart, Mark, Series, line_chart
from camshaft.engine.report.records import TRAINING_KINDS, Result, Run, Stage
from camshaft.engine.report.wording import number, percent
from camshaft.engine.runtime.metrics import FILE, read_metrics

PLACES = ("step", "epoch")
"""Keys that say where in the training a line was logged."""

FIRST_KEYS = ("loss", "learning_rate")


RUNNING_KEYS = ("gradient_norm", "loss_scale", "skipped_steps", "images_per_second", "waiting_for_data")
"""What the loop logs of its own running, beside what the objective learns."""


@dataclass(frozen=True)
class Training:
    """The charts of one training stage: of what was learnt, and of how the loop ran."""

    stage: Stage
    learnt: tuple[Chart, ...]
    running: tuple[Chart, ...]


def training_curves(run: Run) -> tuple[Training, ...]:
    """The charts of every training stage, one a logged figure."""
    return tuple(_training(stage) for stage in run.stages if stage.record.kind in TRAINING_KINDS)


def _training(stage: Stage) -> Training:
    metrics = _figures(stage.folder / FILE)
    charts = {key: _chart(key, metrics) for key in _keys(metrics)}
    return Training(
        stage,
        learnt=tuple(chart for key, chart in charts.items() if key not in RUNNING_KEYS),
        running=tuple(chart for key, chart in charts.items() if key in RUNNING_KEYS),
    )


def _figures(path: Path) -> list[dict[str, float]]:
    """The logged records by ascending step, finite numbers alone; empty if nothing was logged."""
    if not path.is_file():
        return []
    records = [{key: float(value) for key, value in line.items() if _is_figure(value)} for line in read_metrics(path)]
    return sorted((record for record in records if "step" in record), key=lambda record: record["step"])


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _keys(metrics: Sequence[dict[str, float]]) -> list[str]:
    """What was logged, in the order in which it first was; loss and learning rate first."""
    keys = list(dict.fromkeys(key for line in metrics for key in line if key not in PLACES))
    return sorted(keys, key=lambda key: FIRST_KEYS.index(key) if key in FIRST_KEYS else len(FIRST_KEYS))


def _chart(key: str, metrics: Sequence[dict[str, float]]) -> Chart:
    points = [(line["step"], line[key]) for line in metrics if key in line]
    series = Series(key.replace("_", " "), [x for x, _ in points], [y for _, y in points])
    return line_chart(series.name, "step", [series], width=280, height=160, from_zero=True)


def sweep_chart(run: Run) -> Chart | None:
    """mIoU over the threshold for all results that were swept; None if none was."""
    series = [line for result in run.results if (line := _swept(result, len(run.splits) > 1)) is not None]
    if not series:
        return None
    fixed = {mark.x for line in series for mark in line.marks if not mark.hollow}
    guides = {f"fixed: {number(threshold)}": threshold for threshold in sorted(fixed)}
    return line_chart("mIoU in %", "threshold", series, width=640, height=320, from_zero=False, guides=guides)


def _swept(result: Result, name_split: bool) -> Series | None:
    row, sweep = result.row, result.row.sweep
    if sweep is None:
        return None
    points = [(x, 100 * y) for x, y in zip(sweep.thresholds, sweep.miou, strict=False) if y is not None]
    if not points:
        return None
    name = f"{row.name} ({result.split})" if name_split else row.name
    marks = []
    if row.threshold is not None and row.miou is not None and points[0][0] <= row.threshold <= points[-1][0]:
        words = f"{name}: {percent(row.miou)} at the fixed threshold {number(row.threshold)}"
        marks.append(Mark(row.threshold, 100 * row.miou, hollow=False, words=words))
    if sweep.best_threshold is not None and sweep.best_miou is not None:
        words = f"{name}: best {percent(sweep.best_miou)} at {number(sweep.best_threshold)}, found on ground truth"
        marks.append(Mark(sweep.best_threshold, 100 * sweep.best_miou, hollow=True, words=words))
    return Series(name, [x for x, _ in points], [y for _, y in points], tuple(marks))
