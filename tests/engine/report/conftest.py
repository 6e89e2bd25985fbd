import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camshaft.engine.data import VOID, DataSet, open_data
from camshaft.engine.data.scenes import ScenesSettings
from camshaft.engine.report.records import Row
from camshaft.engine.stores import MapStoreWriter, MaskFolder, finalize, plan

TAGS, IMAGENET = "image tags", "ImageNet weights"
VOID_ELEMENTS = ("meta", "link", "img", "br")


def softened(mask: np.ndarray, reach: int) -> np.ndarray:
    """float32 (H, W) in [0, 1]: means over squares, twice."""
    soft = np.asarray(mask, np.float32)
    for axis in (0, 1, 0, 1):
        padding = [(reach, reach) if a == axis else (0, 0) for a in (0, 1)]
        sums = np.cumsum(np.pad(soft, padding, mode="edge"), axis=axis, dtype=np.float64)
        ahead = np.take(sums, range(2 * reach, sums.shape[axis]), axis)
        soft = ((ahead - np.take(sums, range(ahead.shape[axis]), axis)) / (2 * reach)).astype(np.float32)
    return np.asarray(soft / max(float(soft.max()), 1e-5), np.float32)


def write_maps(path: Path, data: DataSet, ids: Sequence[str], reach: int) -> None:
    """A store of maps at stride 8, each class's the truth out of focus."""
    values, lists, grids, sizes = [], [], [], []
    for image_id in ids:
        mask = data.mask(image_id)
        assert mask is not None
        present = [k for k in range(len(data.classes)) if (mask == k + 1).any()]
        maps = [softened(mask == k + 1, reach)[::8, ::8] for k in present]
        grid = softened(mask, 2)[::8, ::8].shape
        values.append(np.stack(maps) if maps else np.zeros((0, *grid), np.float32))
        lists.append(present)
        grids.append(grid)
        sizes.append(mask.shape)
    layout = plan(list(ids), lists, np.array(grids), np.array(sizes), classes=data.classes)
    writer = MapStoreWriter.create(path, layout)
    for block in range(layout.block_count):
        writer.write_block(block, [np.ascontiguousarray(values[index]) for index in layout.block(block)])
    finalize(path, {"align_corners": False})


def write_masks(path: Path, data: DataSet, ids: Sequence[str], shift: int, void: bool = False) -> None:
    """A folder of masks: the truth moved by `shift` pixels, its left eighth void if asked for."""
    folder = MaskFolder.create(path, data.palette, data.file_values)
    for image_id in ids:
        mask = data.mask(image_id)
        assert mask is not None
        moved = np.roll(np.where(mask == VOID, 0, mask), (shift, shift), (0, 1)).astype(np.uint8)
        if void:
            moved[:, : moved.shape[1] // 8] = VOID
        folder.write(image_id, moved)
    folder.finalize(list(ids), {})


def write_metrics(folder: Path, steps: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            record = {
                "step": step,
                "epoch": step * 5 // steps,
                "loss": 0.69 * math.exp(-2.5 * step / steps) + 0.05 * float(random.random()),
                "learning_rate": 0.01 * (1 - (step - 1) / steps) ** 0.9,
                "accuracy": min(1.0, 0.3 + 0.6 * step / steps + 0.1 * float(random.random())),
                "gradient_norm": 1 + float(random.random()),
                "images_per_second": 21.5 + float(random.random()),
            }
            file.write(json.dumps(record) + "\n")


class RunBuilder:
    """Writes a run folder stage by stage, as the pipeline does."""

    def __init__(self, folder: Path, data: DataSet, split: str = "val") -> None:
        self.folder, self.data, self.split = folder, data, split
        self.ids = data.ids(split)
        self.entries: list[dict[str, Any]] = []
        self.made = 0
        self.skipped: list[dict[str, str]] = []
        self.rows: list[dict[str, Any]] = []
        self.name, self.description = "trial", "Three classifiers, their maps, and what becomes of them."

    def stage(self, stage_id: str, kind: str, figures: Mapping[str, Any], **values: Any) -> Path:
        """Add a stage's folder and stage.json."""
        digest = f"{self.made:02d}ab34cd56ef" * 5
        self.made += 1
        relative = f"stages/{stage_id}-{digest[:10]}"
        folder = self.folder / relative
        folder.mkdir(parents=True)
        record = {
            "id": stage_id,
            "kind": kind,
            "settings": {},
            "fingerprint": digest,
            "inputs": {},
            "supervision": [TAGS, IMAGENET],
            "device": "CPU, 2 threads",
            "precision": "bf16",
            "ranks": 1,
            "threads": 2,
            "seconds": 41.5,
            "peak_memory_bytes": 1_610_612_736,
            "started": "2026-03-01T10:00:00+00:00",
            "finished": "2026-03-01T10:00:41+00:00",
            "notes": [],
            "code": {"version": "0.1.0", "digest": "0" * 64},
            "packages": {"torch": "2.13.0", "zarr": "3.1.6"},
            "python": "3.11.9",
            "machine": "Linux x86_64, a processor",
            "figures": figures,
            **values,
        }
        (folder / "stage.json").write_text(json.dumps(record))
        self.entries.append({"id": stage_id, "kind": kind, "folder": relative, "fingerprint": digest})
        return folder

    def training(self, stage_id: str, kind: str, steps: int = 300, **values: Any) -> None:
        """Add a training stage with its metrics."""
        figures = {"steps": steps, "epochs": 5, "loss": 0.08, "images_per_second": 21.7, "images": len(self.ids)}
        write_metrics(self.stage(stage_id, kind, figures, **values), steps, len(self.entries))

    def evaluated(self, of: str, name: str, product: str, miou: float | None, **values: Any) -> None:
        """Add a row for the evaluate stage to come."""
        names = ("background", *self.data.classes)
        iou = {name: None if miou is None else miou * (0.8 + 0.4 * k / len(names)) for k, name in enumerate(names)}
        row = Row(of=of, name=name, product=product, miou=miou, iou=iou, images=len(self.ids), **values)
        self.rows.append(row.model_dump())

    def maps(self, stage_id: str, reach: int, miou: float) -> None:
        """Add a stage of maps, with a sweep of its own."""
        folder = self.stage(stage_id, "maps", {self.split: {"images": len(self.ids), "bytes": 9000}}, produces="maps")
        write_maps(folder / self.split, self.data, self.ids, reach)
        thresholds = [round(0.05 + 0.01 * step, 2) for step in range(56)]
        best = 0.2 + reach / 100
        curve = [miou + 0.02 - 2 * (threshold - best) ** 2 for threshold in thresholds]
        sweep = {"thresholds": thresholds, "miou": curve, "best_threshold": round(best, 2), "best_miou": miou + 0.02}
        at_fixed = curve[thresholds.index(0.3)]
        self.evaluated(stage_id, stage_id, "maps", at_fixed, threshold=0.3, sweep=sweep)

    def crf(self, stage_id: str, alphas: Sequence[float], void: bool = False) -> None:
        """Add a CRF stage."""
        figures, settings = {self.split: {"images": len(self.ids)}}, {"alphas": list(alphas)}
        folder = self.stage(stage_id, "crf", figures, notes=["numba"], settings=settings, produces="CRF masks")
        for alpha in alphas:
            write_masks(folder / self.split / f"alpha-{alpha:g}", self.data, self.ids, int(alpha), void)
            coverage = 0.875 if void else 1.0
            name = f"{stage_id} α={alpha:g}"
            self.evaluated(stage_id, name, "CRF masks", 0.53, alpha=alpha, coverage=coverage)

    def masks(self, stage_id: str, kind: str, miou: float, shift: int = 6) -> None:
        """Add a stage that leaves masks."""
        folder = self.stage(stage_id, kind, {self.split: {"images": len(self.ids)}}, produces="masks")
        write_masks(folder / self.split, self.data, self.ids, shift)
        self.evaluated(stage_id, stage_id, "masks", miou)

    def evaluate(self, stage_id: str = "val") -> None:
        """Add the evaluate stage of the rows so far."""
        self.stage(stage_id, "evaluate", {"split": self.split, "rows": self.rows}, supervision=[])
        self.rows = []

    def finish(self) -> Path:
        """Write run.json; the run's folder."""
        value = {
            "name": self.name,
            "description": self.description,
            "recipe": {
                "name": self.name,
                "stages": [{"id": entry["id"], "kind": entry["kind"]} for entry in self.entries],
            },
            "classes": list(self.data.classes),
            "data": {
                "kind": self.data.name,
                "fingerprint": "f" * 64,
                "splits": {"val": len(self.ids)},
                "skipped": self.skipped,
            },
            "stages": self.entries,
            "seconds": 500.0,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "run.json").write_text(json.dumps(value))
        return self.folder


def build_whole(builder: RunBuilder) -> Path:
    """A run with every kind of stage."""
    builder.training("ordinary", "classify")
    builder.training("cgnet", "erase", steps=40)
    builder.maps("maps_ordinary", 4, 0.43)
    builder.maps("maps_cgnet", 10, 0.47)
    builder.crf("crf", (4, 24), void=True)
    builder.masks("labels", "labels", 0.55)
    builder.training("deeplab", "segment", steps=1)
    builder.masks("prediction", "predict", 0.58, shift=2)
    builder.evaluate()
    return builder.finish()


@pytest.fixture(scope="session")
def scenes() -> DataSet:
    return open_data(ScenesSettings(kind="scenes", train=4, val=10, height=96, width=128), Path())


@pytest.fixture
def builder(tmp_path: Path, scenes: DataSet) -> RunBuilder:
    return RunBuilder(tmp_path / "run", scenes)


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory, scenes: DataSet) -> Path:
    """A run with every kind of stage; tests don't change it."""
    return build_whole(RunBuilder(tmp_path_factory.mktemp("whole") / "run", scenes))


@pytest.fixture
def run(whole_run: Path, tmp_path: Path) -> Path:
    """A copy of that run for one test."""
    return Path(shutil.copytree(whole_run, tmp_path / "whole", ignore=shutil.ignore_patterns("report")))


class Element:
    """An HTML element: its name, attributes, ancestors' names and text."""

    def __init__(self, tag: str, attributes: dict[str, str], within: tuple[str, ...]) -> None:
        self.tag, self.attributes, self.within, self.text = tag, attributes, within, ""


class Page(HTMLParser):
    """A parsed page; a tag that is not closed where it should be is an error."""

    def __init__(self, file: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.folder = file.parent
        self.source = file.read_text(encoding="utf-8")
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(self.source)
        self.close()
        assert not self._open, f"not closed: {[element.tag for element in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice: {names}"
        attributes = {name: value or "" for name, value in attrs}
        element = Element(tag, attributes, tuple(above.tag for above in self._open))
        self.elements.append(element)
        if tag not in VOID_ELEMENTS:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1].tag == tag, f"</{tag}> where <{self._open[-1].tag}> is open"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """The elements with this name and these attributes (`class_` for class, any of its words)."""

        def fits(element: Element) -> bool:
            given = {name.rstrip("_"): value for name, value in attributes.items()}
            words = element.attributes.get("class", "").split()
            wanted = given.pop("class", None)
            return (wanted is None or wanted in words) and given.items() <= element.attributes.items()

        return [element for element in self.elements if element.tag == tag and fits(element)]

    def rows(self, table_class: str) -> list[list[str]]:
        """The cells' texts of every table of a class, heads among them, line by line."""
        lines: list[list[str]] = []
        inside = False
        for element in self.elements:
            if element.tag == "table":
                inside = table_class in element.attributes.get("class", "").split()
            elif inside and element.tag == "tr":
                lines.append([])
            elif inside and element.tag in ("th", "td") and "table" in element.within:
                lines[-1].append(" ".join(element.text.split()))
        return lines


@pytest.fixture(scope="session")
def parsed() -> Callable[[Path], Page]:
    return Page
