"""What a sweep leaves for readers: a page in the report's manner, and its table as CSV and JSON."""

from dataclasses import dataclass
from pathlib import Path

import camshaft
from camshaft.engine.report.comparison import SweepRuns, as_csv, as_json, columns, differences, setting_in_words
from camshaft.engine.report.records import Stage
from camshaft.engine.report.tables import FINGERPRINT_DIGITS
from camshaft.engine.report.templates import own, rendered
from camshaft.engine.runtime.files import write_bytes, write_json
from camshaft.engine.runtime.progress import duration

PAGE = "index.html"


@dataclass(frozen=True)
class SharedStage:
    """A stage of one or more variants, as the page's table has it."""

    id: str
    kind: str
    variants: str
    time: str
    learnt_from: str
    fingerprint: str
    folder: str


def write_comparison(sweep: SweepRuns) -> Path:
    """Write table.csv, table.json and index.html beside the sweep's records; the page's path.

    Raises:
        DiskFullError: no space was left; what was there before still is.
    """
    write_bytes(sweep.records / "table.csv", as_csv(sweep).encode())
    write_json(sweep.records / "table.json", as_json(sweep))
    page = sweep.records / PAGE
    write_bytes(page, _page(sweep).encode())
    return page


def stage_lines(sweep: SweepRuns) -> tuple[SharedStage, ...]:
    """Every stage of all variants once, with the variants that share it."""
    stages: dict[str, Stage] = {}
    users: dict[str, list[str]] = {}
    for name, run in sweep.runs.items():
        for stage in run.stages:
            stages[stage.record.fingerprint] = stage
            users.setdefault(stage.record.fingerprint, []).append(name)
    return tuple(
        SharedStage(
            id=stage.id,
            kind=stage.record.kind,
            variants="all" if len(users[digest]) == len(sweep.runs) else ", ".join(users[digest]),
            time=duration(stage.record.seconds),
            learnt_from=", ".join(stage.record.supervision),
            fingerprint=digest[:FINGERPRINT_DIGITS],
            folder=stage.folder.relative_to(sweep.folder).as_posix(),
        )
        for digest, stage in stages.items()
    )


def _page(sweep: SweepRuns) -> str:
    return rendered(
        "comparison.html.j2",
        sweep=sweep.record,
        facts=_facts(sweep),
        columns=columns(sweep),
        differences=differences(sweep),
        in_words=setting_in_words,
        described=[variant for variant in sweep.record.variants if variant.description],
        stages=stage_lines(sweep),
        version=camshaft.__version__,
        style=own("report.css"),
    )


def _facts(sweep: SweepRuns) -> list[tuple[str, str]]:
    """The sweep at a glance, as pairs of name and value."""
    distinct = {stage.record.fingerprint: stage for run in sweep.runs.values() for stage in run.stages}
    asked = sum(len(run.stages) for run in sweep.runs.values())
    first = next(iter(sweep.runs.values())).record
    return [
        ("Variants", str(len(sweep.runs))),
        ("Data", f"{first.data.kind}, {len(first.classes)} classes"),
        ("Stages", f"{len(distinct)}, which stand for {asked}"),
        ("Time of all stages", duration(sum(stage.record.seconds for stage in distinct.values()))),
        ("Device", ", ".join(dict.fromkeys(stage.record.device for stage in distinct.values()))),
    ]
