"""A sweep's table: on the terminal, as CSV and JSON, and as a page."""

import csv
import io
import json

import pytest
from rich.console import Console

from camshaft.engine.errors import StoreError
from camshaft.engine.report.comparison import (
    as_csv,
    as_json,
    columns,
    comparison_table,
    differences,
    read_sweep,
    unknown_columns,
)
from camshaft.engine.report.comparison_page import write_comparison


@pytest.fixture
def sweep(builder, tmp_path):
    """Two variants that share their first stage; `columns` of sweep.json may be changed by tests."""
    builder.training("ordinary", "classify")
    shared = list(builder.entries)
    for name, miou, delta in (("high", 0.401, 0.9), ("low", 0.402, 0.5)):
        builder.entries = list(shared)
        builder.stage("drs", "classify", {"accuracy": 0.7 - delta / 10, "steps": 30, "train": {"images": 8}})
        builder.evaluated("maps_drs", "maps_drs", "maps", miou)
        builder.evaluated("crf", "crf α=4", "CRF masks", None, alpha=4.0)
        builder.evaluate(f"scores_{name}")
        path = builder.finish() / "run.json"
        value = json.loads(path.read_text())
        value["recipe"]["stages"][1]["suppression"] = {"delta": delta, "layers": ["stage6", "stage7"]}
        records = builder.folder / "sweeps/deltas" / name
        records.mkdir(parents=True)
        (records / "run.json").write_text(json.dumps(value))
        path.unlink()
    write_record(builder.folder)
    return builder.folder


def write_record(folder, asked=None):
    variants = [{"name": "high", "description": "δ <b>high</b>"}, {"name": "low", "description": ""}]
    record = {"name": "deltas", "description": "which δ", "columns": asked, "variants": variants, "seconds": 3.0}
    (folder / "sweeps/deltas/sweep.json").write_text(json.dumps(record))


def test_unasked_every_miou_and_accuracy(sweep):
    found = columns(read_sweep(sweep))
    assert [column.name for column in found] == ["maps_drs", "crf α=4", "drs.accuracy"]
    assert found[0].values == (0.401, 0.402)
    assert found[1].values == (None, None)
    assert found[2].values == pytest.approx((0.61, 0.65))


def test_asked_for_in_this_order(sweep):
    write_record(sweep, ["drs.train.images", "maps_drs", "drs.acuracy"])
    complete = read_sweep(sweep)
    found = columns(complete)
    assert [column.words(0) for column in found] == ["8", "40.1", "–"]
    assert [column.is_share for column in found] == [False, True, False]
    (line,) = unknown_columns(complete, found)
    assert line == "columns.drs.acuracy: no variant has it; drs has accuracy, steps, train.images"


def test_the_best_share_is_marked_and_ties_as_printed_are_both(sweep):
    write_record(sweep, ["maps_drs"])
    (column,) = columns(read_sweep(sweep))
    assert [column.is_best(0), column.is_best(1)] == [False, True]
    path = sweep / "sweeps/deltas/low/run.json"
    (scores,) = (stage for stage in json.loads(path.read_text())["stages"] if stage["id"].startswith("scores"))
    record = sweep / scores["folder"] / "stage.json"
    record.write_text(record.read_text().replace("0.402", "0.4011"))
    (column,) = columns(read_sweep(sweep))
    assert [column.is_best(0), column.is_best(1)] == [True, True]


def test_what_tells_variants_apart(sweep):
    found = differences(read_sweep(sweep))
    assert found["stages.drs.suppression.delta"] == (0.9, 0.5)
    assert "stages.drs.suppression.layers" not in found
    assert "stages.ordinary.kind" not in found


def test_terminal_csv_and_json_say_the_same(sweep):
    complete = read_sweep(sweep)
    console = Console(file=io.StringIO(), width=140, color_system=None)
    console.print(comparison_table(complete))
    (line,) = [line for line in console.file.getvalue().splitlines() if "low" in line]
    assert line.replace("│", " ").split() == ["low", "40.2", "–", "65.0"]
    rows = list(csv.DictReader(io.StringIO(as_csv(complete))))
    assert [(row["variant"], row["maps_drs"], row["crf α=4"]) for row in rows] == [
        ("high", "0.401", ""),
        ("low", "0.402", ""),
    ]
    values = json.loads(json.dumps(as_json(complete), allow_nan=False))
    assert values["variants"][1]["figures"] == {"maps_drs": 0.402, "crf α=4": None, "drs.accuracy": pytest.approx(0.65)}
    assert values["variants"][0]["settings"]["stages.drs.suppression.delta"] == 0.9


def test_a_narrow_terminal_cuts_no_name(sweep):
    console = Console(file=io.StringIO(), width=30, color_system=None)
    console.print(comparison_table(read_sweep(sweep)))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 30
    assert "…" not in console.file.getvalue()


def test_the_page_lists_shared_stages_once_and_escapes(sweep, parsed):
    file = write_comparison(read_sweep(sweep))
    page = parsed(file)
    table = page.rows("classes")
    assert table[0][0] == "Variant"
    assert table[0][-3:] == ["maps_drs, %", "crf α=4, %", "drs.accuracy, %"]
    assert [row[0] for row in table[1:]] == ["high", "low"]
    assert [element.text for element in page.all("strong")] == ["40.2", "65.0"]
    stages = page.rows("stages")
    assert [(row[0], row[2]) for row in stages[1:]] == [
        ("ordinary", "all"),
        ("drs", "high"),
        ("scores_high", "high"),
        ("drs", "low"),
        ("scores_low", "low"),
    ]
    assert "&lt;b&gt;" in page.source
    assert "<b>" not in page.source
    assert {path.name for path in file.parent.iterdir()} >= {"table.csv", "table.json", "index.html"}


def test_a_folder_of_several_sweeps_needs_a_name(sweep):
    other = sweep / "sweeps/layers"
    other.mkdir()
    (other / "sweep.json").write_text((sweep / "sweeps/deltas/sweep.json").read_text())
    with pytest.raises(StoreError, match="several sweeps, name one of them: deltas, layers"):
        read_sweep(sweep)
    assert read_sweep(sweep, "deltas").record.name == "deltas"
    with pytest.raises(StoreError, match="no complete sweep 'delta'; there are deltas, layers"):
        read_sweep(sweep, "delta")


def test_a_sweep_that_has_not_ended(sweep):
    (sweep / "sweeps/deltas/sweep.json").unlink()
    with pytest.raises(StoreError, match="holds no sweep that has come to its end"):
        read_sweep(sweep)
    write_record(sweep)
    (sweep / "sweeps/deltas/low/run.json").unlink()
    with pytest.raises(StoreError, match=r"low/run\.json: is missing"):
        read_sweep(sweep)
