"""A whole run on two ranks: what is made per image has the same bytes as on one, a training learns the same."""

import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., subprocess.Popen[str]]
Write = Callable[[Mapping[str, Any]], Path]

TRAININGS = ("ordinary", "cgnet", "deeplab")
PER_IMAGE = ("maps", "crf", "labels", "prediction", "scores")
TOLERANCE = 1e-4
"""Relative, of the first step: two ranks add the same float32 terms in another order."""


def on_one(camshaft: Start, *arguments: str | Path) -> str:
    # As many threads as each of two ranks has: sums over threads differ in their last bits.
    return ended(camshaft("run", *arguments, LOCAL_WORLD_SIZE="2"))


def on_two(camshaft: Start, *arguments: str | Path) -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launched = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    first, second = (camshaft("run", *arguments, **launched, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2))
    try:
        text = ended(first)
        assert ended(second) == ""
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()
    return text


def ended(process: subprocess.Popen[str]) -> str:
    text, _ = process.communicate(timeout=200)
    assert process.returncode == 0, text
    return text


def folder_of(run: Path, stage: str) -> Path:
    (folder,) = (run / "stages").glob(f"{stage}-*")
    return folder


def results(run: Path, stage: str) -> dict[str, bytes]:
    """The bytes of what a stage made, manifests among them."""
    folder = folder_of(run, stage)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "stage.json"
    }


def record(run: Path, stage: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder_of(run, stage) / "stage.json").read_text())
    return values


def first_loss(run: Path, stage: str) -> float:
    return float(json.loads((folder_of(run, stage) / "metrics.jsonl").read_text().splitlines()[0])["loss"])


@pytest.mark.two_ranks
@pytest.mark.slow
def test_one_rank_and_two_make_the_same(
    tiny: dict[str, Any], write_recipe: Write, camshaft: Start, tmp_path: Path
) -> None:
    tiny["data"] |= {"train": 12, "val": 12}
    tiny["stages"] = [stage for stage in tiny["stages"] if stage["id"] in TRAININGS + PER_IMAGE]
    tiny["stages"][-1]["of"] = list(PER_IMAGE[:-1])
    for stage in tiny["stages"]:
        if stage["id"] in TRAININGS:
            stage |= {"iterations": 1, "log_every": 1}
            del stage["epochs"]
        if stage["id"] == "maps":
            stage["network"] = "ordinary"
    recipe, one, both = write_recipe(tiny), tmp_path / "one", tmp_path / "both"
    on_one(camshaft, recipe, "--out", one)

    shutil.copytree(one, both)
    for stage in ("cgnet", *PER_IMAGE):
        shutil.rmtree(folder_of(both, stage))
    text = on_two(camshaft, recipe, "--out", both)
    for stage in ("ordinary", "deeplab"):
        assert f"{stage}: complete" in text
    for stage in PER_IMAGE:
        assert f"{stage}: starts" in text
        assert record(both, stage)["ranks"] == 2
        assert record(both, stage)["figures"] == record(one, stage)["figures"], stage
        assert results(both, stage) == results(one, stage), stage
    assert first_loss(both, "cgnet") == pytest.approx(first_loss(one, "cgnet"), rel=TOLERANCE)
