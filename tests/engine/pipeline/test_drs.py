"""DRS from tags to masks: suppression, refinement learning, labels with background cues, DeepLab-v2, prediction."""

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camshaft.engine.runtime.metrics import read_metrics
from camshaft.engine.stores import MaskFolder

Write = Callable[[Mapping[str, Any]], Path]

NETWORK: Mapping[str, Any] = {
    "backbone": {"name": "efficientnet_lite0", "output_stride": 16},
    "iterations": 2,
    "batch_size": 2,
    "augmentation": {"resize": {"square": 65}, "flip": 0.5},
    "log_every": 1,
}
MAPS: Mapping[str, Any] = {"kind": "maps", "reduction": "max", "scales": [1.0], "flip": False, "square": 65}
STAGES: list[Mapping[str, Any]] = [
    {"id": "drs", "kind": "classify", **NETWORK, "suppression": {"controller": "learnable", "layers": ["stage7"]}},
    {"id": "maps", "network": "drs", **MAPS},
    {
        "id": "refined",
        "kind": "refine",
        "maps": "maps",
        **NETWORK,
        "iterations": 8,
        "resolution": "input",
        "strongest_only": True,
        "optimizer": {"kind": "adam", "lr": 3e-3},
    },
    {"id": "maps_refined", "network": "refined", "divide": False, **MAPS},
    {
        "id": "labels",
        "kind": "labels",
        "maps": "maps_refined",
        "threshold": 0.2,
        "saliency": {"beta": 0.198, "sure": 0.9},
    },
    {
        "id": "deeplab",
        "kind": "segment",
        "labels": "labels",
        **NETWORK,
        "head": {"name": "aspp", "dilations": [1, 2]},
        "scales": [1.0, 0.5],
        "resolution": "logits",
        "align_corners": True,
        "self_training": True,
    },
    {
        "id": "prediction",
        "kind": "predict",
        "network": "deeplab",
        "scales": [1.0, 0.5],
        "flip": False,
        "reduction": "max",
        "crf": {"iterations": 2},
    },
    {"id": "scores", "kind": "evaluate", "of": ["prediction"], "split": "val"},
]


@pytest.mark.slow
def test_the_whole_of_drs_runs_and_says_what_it_learnt_from(
    write_recipe: Write, camshaft: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    data = {"kind": "scenes", "train": 4, "val": 2, "height": 64, "width": 80}
    # A process of its own: DeepSpeed keeps groups of processes that another test has ended.
    going = camshaft("run", write_recipe({"name": "drs", "data": data, "stages": STAGES}), "--out", tmp_path / "run")
    text, _ = going.communicate()
    assert going.returncode == 0, text
    for stage in STAGES:
        assert f"{stage['id']}: done" in text

    folders = {path.name.rpartition("-")[0]: path for path in (tmp_path / "run/stages").iterdir()}
    records = {name: json.loads((path / "stage.json").read_text()) for name, path in folders.items()}
    for name in ("drs", "maps", "refined", "maps_refined"):
        assert records[name]["supervision"] == ["ImageNet weights", "image tags"], name
    for name in ("labels", "deeplab", "prediction"):
        assert records[name]["supervision"] == ["ImageNet weights", "image tags", "saliency maps"], name
    assert records["refined"]["produces"] == "a refinement network"
    losses = [record["loss"] for record in read_metrics(folders["refined"] / "metrics.jsonl")]
    assert losses[-1] < losses[0]
    assert records["deeplab"]["figures"]["self_training"] > 0
    assert records["labels"]["notes"] == ["background comes from saliency maps below 0.198"]
    masks = MaskFolder.open(folders["labels"] / "train")
    found = set(np.unique(np.concatenate([masks.read(name).ravel() for name in masks.ids])))
    assert {0, 255} < found
    page = (tmp_path / "run/report/index.html").read_text()
    assert "saliency maps" in page
    assert "absolute error" in page
