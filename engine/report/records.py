"""What a run left on disk, read for the report: run.json and each stage's stage.json."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from camshaft.engine.errors import StoreError
from camshaft.engine.pipeline.record import FILE as STAGE_FILE
from camshaft.engine.pipeline.run import RUN_FILE

TRAINING_KINDS = ("classify", "erase", "refine", "affinity", "segment")

M = TypeVar("M", bound="Record")


class Record(BaseModel):
    """A JSON object of a run; keys that the report does not show are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Sweep(Record):
    """mIoU at each of many thresholds, found by comparison with ground truth."""

    thresholds: tuple[float, ...]
    miou: tuple[float | None, ...]
    best_threshold: float | None = None
    best_miou: float | None = None


class Row(Record):
    """One evaluated result, as the figures of an evaluate stage hold it. IoU and mIoU are in 0 … 1."""

    of: str
    name: str
    product: str
    alpha: float | None = None
    miou: float | None = None
    iou: Mapping[str, float | None] = {}
    coverage: float = 1.0
    threshold: float | None = None
    images: int = 0
    sweep: Sweep | None = None


class Figures(Record):
    """The figures of an evaluate stage."""

    split: Literal["train", "val"]
    rows: tuple[Row, ...] = ()


class StageRecord(Record):
    """One stage.json. `figures` depends on the kind of stage."""

    id: str
    kind: str
    produces: str = ""
    settings: Mapping[str, Any] = {}
    fingerprint: str = ""
    inputs: Mapping[str, str] = {}
    supervision: tuple[str, ...] = ()
    device: str = ""
    precision: str = ""
    ranks: int = 1
    threads: int | None = None
    seconds: float = 0.0
    peak_memory_bytes: int | None = None
    started: str = ""
    finished: str = ""
    notes: tuple[str, ...] = ()
    code: Mapping[str, Any] = {}
    packages: Mapping[str, str] = {}
    python: str = ""
    machine: str = ""
    figures: Mapping[str, Any] = {}


class Skipped(Record):
    """An image that was left out of the run."""

    split: str
    id: str
    reason: str


class DataRecord(Record):
    """What run.json says of the data set."""

    kind: str = ""
    fingerprint: str = ""
    splits: Mapping[str, int] = {}
    skipped: tuple[Skipped, ...] = ()


class StageEntry(Record):
    """Where run.json says that a stage is."""

    id: str
    kind: str
    folder: str
    fingerprint: str = ""


class RunRecord(Record):
    """run.json."""

    name: str
    description: str = ""
    recipe: Mapping[str, Any] = {}
    classes: tuple[str, ...]
    data: DataRecord = DataRecord()
    stages: tuple[StageEntry, ...] = ()


@dataclass(frozen=True)
class Stage:
    """A stage's folder and record."""

    folder: Path
    record: StageRecord

    @property
    def id(self) -> str:
        """The stage's id in the recipe."""
        return self.record.id


@dataclass(frozen=True)
class Result:
    """One evaluated result, with the split that it was evaluated on."""

    split: str
    row: Row


@dataclass(frozen=True)
class Run:
    """A complete run."""

    folder: Path
    record: RunRecord
    stages: tuple[Stage, ...]

    @cached_property
    def results(self) -> tuple[Result, ...]:
        """Every evaluated result, in the order of the evaluate stages and their rows; the same row never twice."""
        found: dict[tuple[str, str, str, float | None], Result] = {}
        for stage in self.stages:
            if stage.record.kind == "evaluate":
                figures = read_record(Figures, stage.record.figures, stage.folder / STAGE_FILE)
                for row in figures.rows:
                    found.setdefault((figures.split, row.of, row.name, row.alpha), Result(figures.split, row))
        return tuple(found.values())

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that anything was evaluated on, in order of appearance."""
        return tuple(dict.fromkeys(result.split for result in self.results))

    def stage(self, stage_id: str) -> Stage | None:
        """The stage with this id; None if the run has none."""
        return next((stage for stage in self.stages if stage.id == stage_id), None)


def read_run(folder: Path, records: Path | None = None) -> Run:
    """Read the records of a run.

    Args:
        folder: the run's folder.
        records: where its run.json is, if not there: a folder for each variant of a sweep.

    Raises:
        StoreError: run.json or a stage.json is missing, or is not what a run leaves; the message names file and key.
    """
    file = (records or folder) / RUN_FILE
    record = read_record(RunRecord, read_json(file, "the run in this folder has not come to its end"), file)
    stages = []
    for entry in record.stages:
        stage_folder = _inside(folder, entry.folder)
        path = stage_folder / STAGE_FILE
        stages.append(Stage(stage_folder, read_record(StageRecord, read_json(path, "the stage is not complete"), path)))
    return Run(folder, record, tuple(stages))


def read_json(path: Path, meaning_if_missing: str) -> Any:
    """The values of a JSON file.

    Raises:
        StoreError: it is missing, which means what the message says, or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path}: is missing: {meaning_if_missing}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StoreError(f"{path}: can't be read as JSON: {error}") from None


def read_record(model: type[M], value: Any, path: Path) -> M:
    """`value` as a record, which `path` holds.

    Raises:
        StoreError: a key is missing or of another type; the message names it.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise StoreError(f"{path}: {key}: {first['msg']}") from None


def _inside(folder: Path, relative: str) -> Path:
    """`relative` below `folder`."""
    path = folder / relative
    if not path.resolve().is_relative_to(folder.resolve()):
        raise StoreError(f"{folder / RUN_FILE}: the stage folder {relative!r} lies outside the run's folder")
    return path
