"""The tables of the page: results, classes, stages, and what the run learnt from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from camshaft.engine.report.records import Result, Run, Stage, StageRecord
from camshaft.engine.report.summary import best_of_sweep, fixed_threshold, partly_labelled
from camshaft.engine.report.wording import listed, percent, size
from camshaft.engine.runtime.progress import duration
from camshaft.engine.stages.stage import Supervision

FINGERPRINT_DIGITS = 10
GROUND_TRUTH = "ground-truth masks"


@dataclass(frozen=True)
class ResultLine:
    """One evaluated result as the first table has it."""

    name: str
    split: str
    images: str
    miou: str
    share: float
    threshold: str
    best: str
    coverage: str
    learnt_from: str


@dataclass(frozen=True)
class ResultTable:
    """The first table; columns that would say the same everywhere are left out."""

    lines: tuple[ResultLine, ...]
    shows_coverage: bool
    shows_supervision: bool
    shows_thresholds: bool


@dataclass(frozen=True)
class Share:
    """One IoU in words, and whether it is the best of its column among the results of its split."""

    words: str
    best: bool


@dataclass(frozen=True)
class ClassTable:
    """IoU by class of one split: the columns' names, and (result, mIoU, IoU by class) lines."""

    split: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Share, ...]], ...]


@dataclass(frozen=True)
class StageLine:
    """One stage as the last table has it."""

    id: str
    kind: str
    time: str
    memory: str
    device: str
    precision: str
    images: str
    learnt_from: str
    fingerprint: str
    notes: tuple[str, ...]
    folder: str


@dataclass(frozen=True)
class Learning:
    """What the run learnt from, and what is known to the program but had no part in it."""

    used: tuple[str, ...]
    unused: tuple[str, ...]
    masks_evaluated: bool
    """True where ground-truth masks were read by evaluation, and by nothing that learns."""


def result_table(run: Run) -> ResultTable:
    """The first table."""
    lines = tuple(_result_line(run, result) for result in run.results)
    return ResultTable(
        lines=lines,
        shows_coverage=partly_labelled(run),
        shows_supervision=len({line.learnt_from for line in lines}) > 1,
        shows_thresholds=any(result.row.threshold is not None for result in run.results),
    )


def _result_line(run: Run, result: Result) -> ResultLine:
    row, stage = result.row, run.stage(result.row.of)
    return ResultLine(
        name=row.name,
        split=result.split,
        images=f"{row.images:,}",
        miou=percent(row.miou),
        share=min(1.0, max(0.0, row.miou or 0.0)),
        threshold=fixed_threshold(result),
        best=best_of_sweep(result),
        coverage=f"{percent(row.coverage)} %",
        learnt_from=", ".join(stage.record.supervision) if stage else "",
    )


def class_tables(run: Run) -> tuple[ClassTable, ...]:
    """IoU by class, one table a split: figures of different images are not compared."""
    return tuple(_class_table(run, split) for split in run.splits)


def _class_table(run: Run, split: str) -> ClassTable:
    rows = [result.row for result in run.results if result.split == split]
    classes = ("background", *run.record.classes)
    # By what is printed, so that results which look equal are marked alike.
    printed = [[percent(row.miou), *(percent(row.iou.get(name)) for name in classes)] for row in rows]
    values = [[row.miou, *(row.iou.get(name) for name in classes)] for row in rows]
    best = [max((value for value in column if value is not None), default=None) for column in zip(*values, strict=True)]
    lines = tuple(
        (
            row.name,
            tuple(
                Share(words, len(rows) > 1 and greatest is not None and words == percent(greatest))
                for words, greatest in zip(cells, best, strict=True)
            ),
        )
        for row, cells in zip(rows, printed, strict=True)
    )
    return ClassTable(split, ("mIoU", *classes), lines)


def stage_table(run: Run) -> tuple[StageLine, ...]:
    """All stages in the order in which they ran."""
    return tuple(_stage_line(run, stage) for stage in run.stages)


def _stage_line(run: Run, stage: Stage) -> StageLine:
    record = stage.record
    images = images_of(record)
    return StageLine(
        id=record.id,
        kind=record.kind,
        time=duration(record.seconds),
        memory=size(record.peak_memory_bytes),
        device=f"{record.ranks} × {record.device}" if record.ranks > 1 else record.device,
        precision=record.precision,
        images="" if images is None else f"{images:,}",
        learnt_from=", ".join(record.supervision),
        fingerprint=record.fingerprint[:FINGERPRINT_DIGITS],
        notes=record.notes,
        folder=stage.folder.relative_to(run.folder).as_posix(),
    )


def images_of(record: StageRecord) -> int | None:
    """How many images a stage worked on, as its figures say it: as a whole, by split, or by evaluated result."""
    figures = record.figures
    if isinstance(figures.get("images"), int):
        return int(figures["images"])
    if isinstance(rows := figures.get("rows"), list):
        return max((_images(row) for row in rows), default=None)
    by_split = [_images(value) for value in figures.values() if isinstance(value, Mapping) and "images" in value]
    return sum(by_split) if by_split else None


def _images(figures: Mapping[str, Any]) -> int:
    return int(figures.get("images", 0))


def learning(run: Run) -> Learning:
    """What the run's stages learnt from."""
    used = tuple(dict.fromkeys(source for stage in run.stages for source in stage.record.supervision))
    from_masks = any("mask" in source for source in used)
    unused = tuple(str(source) for source in Supervision if source not in used)
    return Learning(
        used=used,
        unused=unused if from_masks else (GROUND_TRUTH, *unused),
        masks_evaluated=bool(run.results) and not from_masks,
    )


def facts(run: Run) -> tuple[tuple[str, str], ...]:
    """The run at a glance, as pairs of name and value."""
    records = [stage.record for stage in run.stages]
    data = run.record.data
    splits = [f"{count:,} {split}" for split, count in data.splits.items()]
    peak = max((record.peak_memory_bytes for record in records if record.peak_memory_bytes is not None), default=None)
    finished = max((record.finished for record in records), default="")
    pairs = (
        ("Data", f"{data.kind}, {len(run.record.classes)} classes"),
        ("Images", listed(splits)),
        ("Time of all stages", duration(sum(record.seconds for record in records))),
        ("Peak memory", size(peak)),
        ("Device", _distinct(record.device for record in records)),
        ("Precision", _distinct(record.precision for record in records)),
        ("Finished", finished[:16].replace("T", " ") + (" UTC" if _is_utc(finished) else "")),
    )
    return tuple((name, value) for name, value in pairs if value)


def _is_utc(time: str) -> bool:
    return time.endswith(("+00:00", "Z"))


def environments(run: Run) -> tuple[str, ...]:
    """Machine and versions, one line for each that some stage ran with."""
    return tuple(dict.fromkeys(line for stage in run.stages if (line := _environment(stage.record))))


def _environment(record: StageRecord) -> str:
    code = f"camshaft {record.code['version']}" if "version" in record.code else ""
    python = f"Python {record.python}" if record.python else ""
    packages = (f"{name} {version}" for name, version in record.packages.items())
    versions = ", ".join(filter(None, (code, python, *packages)))
    return "; ".join(filter(None, (record.machine, versions)))


def _distinct(values: Any) -> str:
    return ", ".join(dict.fromkeys(value for value in values if value))
