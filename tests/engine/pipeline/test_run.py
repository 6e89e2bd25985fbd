"""Whole runs as a user starts them: from tags to masks, killed in every stage, stopped, run again."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., subprocess.Popen[str]]
Write = Callable[[Mapping[str, Any]], Path]
KILLED = ("ordinary", "cgnet", "maps", "crf", "deeplab", "prediction")


def output_of(process: subprocess.Popen[str], code: int = 0) -> str:
    text, _ = process.communicate(timeout=300)
    assert process.returncode == code, text
    return text


def figures(run: Path) -> dict[str, Any]:
    """The figures of every stage by id, and the digests of what the stages made."""
    summary = json.loads((run / "run.json").read_text())
    found: dict[str, Any] = {}
    for stage in summary["stages"]:
        record = json.loads((run / stage["folder"] / "stage.json").read_text())
        found[stage["id"]] = record["figures"]
    return found


def files(run: Path, stage: str) -> dict[str, bytes]:
    folder = next((run / "stages").glob(f"{stage}-*"))
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and (path.suffix in {".png", ".safetensors"} or "/c/" in path.as_posix())
    }


def kill_in(process: subprocess.Popen[str], stage: str) -> bool:
    """Kill the run without warning just after it has begun `stage`; False if it ended before."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith((f"{stage}: starts", f"{stage}: goes on")):
            time.sleep(0.4)
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
            return True
    return False


@pytest.mark.slow
def test_a_run_killed_in_every_stage_ends_with_the_same_figures(
    tiny: dict[str, Any], write_recipe: Write, camshaft: Start, tmp_path: Path
) -> None:
    recipe, whole, killed = write_recipe(tiny), tmp_path / "whole", tmp_path / "killed"
    text = output_of(camshaft("run", recipe, "--out", whole))
    assert "mIoU" in text
    assert str(whole / "report" / "index.html") in text

    stages = [stage["id"] for stage in tiny["stages"]]
    for stage in KILLED:
        assert kill_in(camshaft("run", recipe, "--out", killed), stage), stage
    assert not (killed / "run.json").exists()
    output_of(camshaft("run", recipe, "--out", killed))
    assert figures(killed) == figures(whole)
    for stage in stages:
        assert files(killed, stage) == files(whole, stage), stage

    before = {path: path.stat().st_mtime_ns for path in (killed / "stages").rglob("*")}
    text = output_of(camshaft("run", recipe, "--out", killed))
    assert "nothing to do, all 10 stages are complete" in text
    assert before == {path: path.stat().st_mtime_ns for path in (killed / "stages").rglob("*")}


@pytest.mark.slow
def test_a_change_runs_only_what_depends_on_it(
    tiny: dict[str, Any], write_recipe: Write, camshaft: Start, tmp_path: Path
) -> None:
    tiny["stages"] = [stage for stage in tiny["stages"] if stage["id"] in {"ordinary", "maps_drs", "drs", "scores"}]
    tiny["stages"][-1]["of"] = ["maps_drs"]
    recipe, run = write_recipe(tiny), tmp_path / "run"
    process = camshaft("run", recipe, "--out", run)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ordinary: starts"):
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            break
    text = output_of(process, code=143)
    assert "stopped by SIGTERM" in text
    assert "the same command goes on from" in text

    text = output_of(camshaft("run", recipe, "--out", run, "stages.drs.workers=0"))
    assert "ordinary: goes on" in text
    first = {path.name for path in (run / "stages").iterdir()}

    text = output_of(camshaft("run", recipe, "--out", run, "stages.maps_drs.scales=[1]"))
    assert "drs: complete" in text
    assert "maps_drs: starts" in text
    assert "scores: starts" in text
    second = {path.name for path in (run / "stages").iterdir()}
    assert len(second - first) == 2
    assert first < second

    network = next((run / "stages").glob("drs-*")) / "network.safetensors"
    network.write_bytes(network.read_bytes()[:-1])
    text = output_of(camshaft("run", recipe, "--out", run), code=1)
    assert f"camshaft: {network}: damaged: " in text
    assert f"remove {network.parent} and run again" in text
    assert "Traceback" not in text
