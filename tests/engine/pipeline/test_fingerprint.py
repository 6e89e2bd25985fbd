"""Fingerprints: they change with all that a result depends on, and with nothing else."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from camshaft.engine.models import ClassifierSettings, build_classifier
from camshaft.engine.pipeline.plan import plan
from camshaft.engine.pipeline.recipe import load

Write = Callable[[Mapping[str, Any]], Path]
BACKBONE = {"name": "efficientnet_lite0", "weights": "weights.safetensors"}


@pytest.fixture
def recipe(tmp_path: Path, write_recipe: Write) -> Path:
    """A classifier, its maps on val and their evaluation, on own images with masks and weights from a file."""
    root = tmp_path / "own"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(6):
        Image.effect_noise((80, 60), 40 + number).convert("RGB").save(root / f"images/p{number}.jpg")
        mask = Image.fromarray(np.zeros((60, 80), np.uint8))
        mask.putpalette([0, 0, 0] * 256)
        mask.save(root / f"masks/p{number}.png")
    (root / "tags.csv").write_text("id,cat\n" + "".join(f"p{number},1\n" for number in range(6)))
    (root / "val.txt").write_text("p4\np5\n")
    write_weights(tmp_path, 0)
    training = {"epochs": 1, "batch_size": 2, "augmentation": {"crop": 64}}
    return write_recipe(
        {
            "name": "own",
            "data": {"kind": "folder", "root": str(root), "val_list": "val.txt"},
            "stages": [
                {"id": "ordinary", "kind": "classify", "backbone": BACKBONE, **training},
                {"id": "maps", "kind": "maps", "network": "ordinary", "splits": ["val"]},
                {"id": "scores", "kind": "evaluate", "of": ["maps"]},
            ],
        }
    )


def write_weights(folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    settings = ClassifierSettings.model_validate({"backbone": {**BACKBONE, "weights": None}})
    save_file(build_classifier(settings, ["cat"], folder).backbone.state_dict(), folder / "weights.safetensors")


def fingerprints(recipe: Path, *overrides: str) -> dict[str, str]:
    return {stage.id: stage.folder.name for stage in plan(load(recipe, overrides), recipe.parent / "run")}


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def test_nothing_changed_changes_nothing(recipe: Path) -> None:
    before = fingerprints(recipe)
    assert changed(before, fingerprints(recipe, "stages.ordinary.workers=0", "stages.maps.batch_size=1")) == set()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("stages.scores.threshold=0.3", {"scores"}),
        ("stages.maps.scales=[1]", {"maps", "scores"}),
        ("stages.ordinary.epochs=2", {"ordinary", "maps", "scores"}),
        ("seed=1", {"ordinary", "maps", "scores"}),
        ("precision=bf16", {"ordinary", "maps", "scores"}),
        ("data.on_corrupt=skip", {"ordinary", "maps", "scores"}),
    ],
)
def test_a_setting_changes_what_depends_on_it(recipe: Path, override: str, expected: set[str]) -> None:
    assert changed(fingerprints(recipe), fingerprints(recipe, override)) == expected


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("own/masks/p4.png", {"scores"}),
        ("own/masks/p0.png", set()),
        ("own/images/p4.jpg", {"maps", "scores"}),
        ("own/images/p0.jpg", {"ordinary", "maps", "scores"}),
    ],
)
def test_a_file_changes_the_stages_that_read_it(recipe: Path, file: str, expected: set[str]) -> None:
    before = fingerprints(recipe)
    touch(recipe.parent / file)
    assert changed(before, fingerprints(recipe)) == expected


def test_other_weights_under_the_same_name_are_noticed(recipe: Path) -> None:
    before = fingerprints(recipe)
    touch(recipe.parent / "weights.safetensors")
    assert changed(before, fingerprints(recipe)) == set()
    write_weights(recipe.parent, 1)
    assert changed(before, fingerprints(recipe)) == {"ordinary", "maps", "scores"}
