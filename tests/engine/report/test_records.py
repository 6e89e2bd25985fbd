import json

import pytest

from camshaft.engine.errors import StoreError
from camshaft.engine.report.records import read_run


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_results_in_the_order_of_the_recipe_each_once(builder):
    builder.evaluated("b", "b", "masks", 0.2)
    builder.evaluated("a", "a", "masks", 0.1)
    builder.evaluate("first")
    builder.evaluated("a", "a", "masks", 0.1)
    builder.evaluated("c", "c", "masks", 0.3)
    builder.evaluate("second")
    assert [result.row.name for result in read_run(builder.finish()).results] == ["b", "a", "c"]


def test_keys_that_are_not_shown_are_left_alone(builder):
    builder.stage("maps", "maps", {"whatever": [1, {"deep": None}]}, novelty={"a": 1})
    assert read_run(builder.finish()).stages[0].record.figures["whatever"][0] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "can't be read as JSON"),
        (b"{", "can't be read as JSON"),
        (b"\xff\xfe", "can't be read as JSON"),
        (b"[]", "the file: "),
        (b"{}", "name: Field required"),
        (b'{"name": "a", "classes": "cat"}', "classes: "),
        (b'{"name": "a", "classes": [], "data": {"skipped": [{"id": "x"}]}}', r"data\.skipped\.0\.split: "),
    ],
)
def test_a_run_file_that_is_none(tmp_path, content, message):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(StoreError, match=rf"^{tmp_path}/run\.json: .*{message}"):
        read_run(tmp_path)


def test_a_stage_that_is_not_complete(builder):
    folder = builder.stage("maps", "maps", {})
    run = builder.finish()
    (folder / "stage.json").unlink()
    with pytest.raises(StoreError, match=r"maps-\w+/stage\.json: is missing: the stage is not complete"):
        read_run(run)


def test_figures_that_are_none(builder):
    builder.evaluated("a", "a", "masks", 0.2)
    builder.evaluate()
    run = builder.finish()
    change(next(run.glob("stages/val-*/stage.json")), figures={"split": "../../etc", "rows": []})
    with pytest.raises(StoreError, match=r"stage\.json: split: "):
        _ = read_run(run).results


@pytest.mark.parametrize("folder", ["../elsewhere", "/etc", "stages/../../elsewhere"])
def test_stages_lie_inside_the_run(builder, folder):
    builder.stage("maps", "maps", {})
    run = builder.finish()
    change(run / "run.json", stages=[{"id": "maps", "kind": "maps", "folder": folder}])
    with pytest.raises(StoreError, match="outside the run's folder"):
        read_run(run)
