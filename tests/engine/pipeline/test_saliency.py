"""Saliency maps that are missing, of another size or of 16 bits: said in one line before anything runs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from camshaft.engine.data import open_data
from camshaft.engine.errors import DataError
from camshaft.engine.pipeline import fingerprint
from camshaft.engine.pipeline.prepare import prepare
from camshaft.engine.pipeline.recipe import LoadedRecipe, load
from camshaft.engine.runtime.console import Console
from camshaft.engine.runtime.ranks import Ranks

Write = Callable[[Mapping[str, Any]], Path]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photos with tags and saliency maps."""
    root = tmp_path / "own"
    for folder in ("images", "saliency"):
        (root / folder).mkdir(parents=True)
    for number in range(3):
        Image.effect_noise((40, 30), 50).convert("RGB").save(root / f"images/p{number}.jpg")
        Image.fromarray(np.full((30, 40), 9, np.uint8)).save(root / f"saliency/p{number}.png")
    (root / "tags.csv").write_text("id,cat\np0,1\np1,1\np2,0\n")
    return root


@pytest.fixture
def loaded(photos: Path, write_recipe: Write) -> LoadedRecipe:
    network = {"backbone": {"name": "efficientnet_lite0"}, "epochs": 1, "augmentation": {"crop": 64}}
    stages = [
        {"id": "drs", "kind": "classify", **network},
        {"id": "maps", "kind": "maps", "network": "drs"},
        {"id": "refined", "kind": "refine", "maps": "maps", **network},
        {"id": "maps_refined", "kind": "maps", "network": "refined", "reduction": "max", "divide": False},
        {"id": "labels", "kind": "labels", "maps": "maps_refined", "threshold": 0.2, "saliency": {"beta": 0.06}},
    ]
    data = {"kind": "folder", "root": str(photos), "val_fraction": 0}
    return load(write_recipe({"name": "own", "data": data, "stages": stages}))


def prepared(loaded: LoadedRecipe, folder: Path) -> str:
    data = open_data(loaded.recipe.data, loaded.base)
    return prepare(loaded, data, folder, Ranks(), Console(enabled=False)).fingerprint


def test_saliency_maps_are_looked_at_and_part_of_what_labels_depend_on(
    loaded: LoadedRecipe, photos: Path, tmp_path: Path
) -> None:
    recipe, stages = loaded.recipe, {stage.id: stage for stage in loaded.recipe.stages}

    def digests() -> dict[str, str]:
        data = open_data(recipe.data, loaded.base)
        return {
            name: fingerprint.of_stage(stage, {}, recipe, data, loaded.base, "fp32") for name, stage in stages.items()
        }

    before, whole = digests(), prepared(loaded, tmp_path / "run")
    Image.fromarray(np.full((30, 40), 200, np.uint8)).resize((40, 30)).save(
        photos / "saliency/p1.png", compress_level=0
    )
    after = digests()
    assert {name for name in stages if before[name] != after[name]} == {"labels"}
    assert prepared(loaded, tmp_path / "run") != whole


def spoil_missing(photos: Path) -> None:
    (photos / "saliency/p1.png").unlink()


def spoil_size(photos: Path) -> None:
    Image.fromarray(np.zeros((30, 41), np.uint8)).save(photos / "saliency/p1.png")


def spoil_depth(photos: Path) -> None:
    Image.fromarray(np.zeros((30, 40), np.uint16)).save(photos / "saliency/p1.png")


def spoil_colour(photos: Path) -> None:
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(photos / "saliency/p1.png")


def spoil_all(photos: Path) -> None:
    for path in (photos / "saliency").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_missing, "saliency: there is no saliency map of image 'p1'"),
        (spoil_size, "saliency/p1.png: is 41×30 (width×height), but its image p1.jpg is 40×30"),
        (spoil_depth, "saliency/p1.png: a saliency map must be 8-bit grey, this one is I;16"),
        (spoil_colour, "saliency/p1.png: a saliency map must be 8-bit grey, this one is RGB"),
        (spoil_all, "stages.labels: takes background from saliency maps, but own has none for train"),
    ],
)
def test_bad_saliency_maps_are_named(
    loaded: LoadedRecipe, photos: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(photos)
    with pytest.raises(DataError) as error:
        prepared(loaded, tmp_path / "run")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_without_background_cues_saliency_maps_are_left_alone(
    loaded: LoadedRecipe, photos: Path, tmp_path: Path
) -> None:
    spoil_depth(photos)
    labels = loaded.recipe.stages[-1].model_copy(update={"saliency": None})
    recipe = loaded.recipe.model_copy(update={"stages": (*loaded.recipe.stages[:-1], labels)})
    assert prepared(LoadedRecipe(recipe, loaded.base, loaded.origin), tmp_path / "run")
