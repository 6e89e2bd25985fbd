"""A sweep as a user starts it: killed, gone on with, its shared stages computed once; then figures of it."""

import csv
import json
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from camshaft.engine.cli.main import main
from camshaft.engine.pipeline.run import data_of_run
from camshaft.engine.report.sheet import cell_size

Start = Callable[..., subprocess.Popen[str]]
Write = Callable[[Mapping[str, Any]], Path]
SWEEP = """\
base: recipe.yaml
name: layers
columns: [maps_drs, drs.accuracy, ordinary.accuracy]
variants:
  - {name: two, stages: [{id: drs, suppression: {layers: [stage6, stage7]}}]}
  - {name: last}
"""


@pytest.fixture
def sweep(tiny: dict[str, Any], write_recipe: Write, tmp_path: Path) -> Path:
    kept = {"ordinary", "drs", "maps_drs", "scores"}
    tiny["stages"] = [stage for stage in tiny["stages"] if stage["id"] in kept]
    tiny["stages"][-1].update(of=["maps_drs"], sweep=None)
    tiny["stages"][0]["epochs"] = 1
    tiny["data"]["train"] = 4
    write_recipe(tiny)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return tmp_path / "sweep.yaml"


def kill_at(process: subprocess.Popen[str], start: str, occurrence: int) -> None:
    """Kill the process without warning shortly after the n-th line that starts so."""
    assert process.stdout is not None
    for line in process.stdout:
        occurrence -= line.startswith(start)
        if occurrence == 0:
            time.sleep(0.3)
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
            return
    pytest.fail(f"never came to {start!r}")


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_shares_stages(
    sweep: Path, camshaft: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    kill_at(camshaft("sweep", sweep, "--out", run), "drs: starts", 2)
    assert len(list(run.glob("stages/ordinary-*/stage.json"))) == 1
    assert not (run / "sweeps/layers/sweep.json").exists()
    assert main(["sweep", str(sweep), "--out", str(run)]) == 0
    text = capsys.readouterr().out
    assert text.count("ordinary: complete") == 2
    assert "drs: goes on" in text
    assert "mIoU and accuracy in %" in text
    assert len(list(run.glob("stages/ordinary-*"))) == 1
    assert len(list(run.glob("stages/drs-*"))) == 2

    records = run / "sweeps/layers"
    table = json.loads((records / "table.json").read_text())
    assert table["columns"] == ["maps_drs", "drs.accuracy", "ordinary.accuracy"]
    assert [variant["settings"] for variant in table["variants"]] == [
        {"stages.drs.suppression.layers": ["stage6", "stage7"]},
        {"stages.drs.suppression.layers": ["stage7"]},
    ]
    for variant in table["variants"]:
        summary = json.loads((records / variant["name"] / "run.json").read_text())
        (scores,) = (stage for stage in summary["stages"] if stage["id"] == "scores")
        (row,) = json.loads((run / scores["folder"] / "stage.json").read_text())["figures"]["rows"]
        assert variant["figures"]["maps_drs"] == row["miou"]
    with (records / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["maps_drs"]) for row in rows] == [v["figures"]["maps_drs"] for v in table["variants"]]
    assert "<strong>" in (records / "index.html").read_text()

    before = {path: path.stat().st_mtime_ns for path in (run / "stages").rglob("*")}
    assert main(["sweep", str(sweep), "--out", str(run)]) == 0
    assert "layers: nothing to do, all variants are complete" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (run / "stages").rglob("*")}
    check_figures(run, capsys)


def check_figures(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures of that sweep; its networks and maps are too costly to make twice."""
    data = data_of_run(run / "sweeps/layers/two")
    heights = {name: cell_size(*data.size(name))[0] for name in ("val-000001", "val-000002", "val-000003")}
    assert main(["figure", "variants", str(run), "--stage", "maps_drs", "--images", "val-000001", "val-000003"]) == 0
    picture = np.asarray(Image.open(run / "figures/variants.png"))
    first, second = heights["val-000001"], heights["val-000003"]
    assert picture.shape == (2 * 10 + 24 + first + second + 2 * 18, 2 * 10 + 3 * 240 + 2 * 6, 3)

    assert main(["figure", "features", str(run), "--networks", "drs"]) == 1
    assert "name the variant that is meant with --variant (two, last)" in capsys.readouterr().err
    command = ["figure", "features", str(run), "--variant", "two", "--images", "val-000002", "--unsuppressed"]
    assert main([*command, "--networks", "ordinary", "drs"]) == 1
    assert "the network of 'ordinary' has no suppression to switch off" in capsys.readouterr().err
    assert main([*command, "--networks", "drs", "--layers", "stage99"]) == 1
    assert "'drs' has no layer 'stage99'; it has stem, stage1" in capsys.readouterr().err
    assert main([*command, "--networks", "drs", "--layers", "stage2", "stage7"]) == 0
    picture, height = np.asarray(Image.open(run / "figures/features.png")), heights["val-000002"]
    assert picture.shape == (2 * 10 + 24 + 2 * (height + 18), 2 * 10 + 3 * 240 + 2 * 6, 3)
    suppressed, free = picture[34 : 34 + height], picture[34 + height + 18 : 34 + 2 * height + 18]
    assert (suppressed[:, 10:250] == free[:, 10:250]).all(), "the same photograph twice"
    assert (suppressed[:, 502:742] != free[:, 502:742]).mean() > 0.1


def test_a_bad_stage_of_any_variant_stops_the_sweep_before_it_starts(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep.write_text(SWEEP + "  - {name: none, stages: [{id: drs, suppression: {layers: [stage77]}}]}\n")
    assert main(["sweep", str(sweep), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "variant none: " in error
    assert "'stage77' matches nothing" in error
    assert not list((tmp_path / "run/stages").glob("ordinary-*"))
