"""Every shipped recipe is checked as far as a machine without its data can, and the schema is the program's own."""

import json
from pathlib import Path

import jsonschema
import pytest
import torch

from camshaft.engine.cli.show import schema_text
from camshaft.engine.pipeline.recipe import LoadedRecipe, Recipe, load
from camshaft.engine.pipeline.variants import load_sweep
from camshaft.engine.recipe.compose import read_chain
from camshaft.engine.recipe.yaml import parse
from camshaft.engine.runtime.ranks import Ranks

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "recipes").rglob("*.yaml"))
SWEEPS = [path for path in FILES if "\nvariants:" in path.read_text(encoding="utf-8")]
RECIPES = [path for path in FILES if path not in SWEEPS]
CLASSES = ("cat", "cow", "dog", "horse", "person", "sheep")


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    """The committed schema, itself checked once."""
    schema = json.loads((ROOT / "recipes/schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def presets() -> list[tuple[Path, str | None]]:
    """Every recipe with each of its presets."""
    return [(path, preset) for path in RECIPES for preset in tuple(read_chain(path).presets) or (None,)]


@pytest.fixture(params=presets(), ids=lambda pair: "-".join(filter(None, (pair[0].stem, pair[1]))))
def recipe(request: pytest.FixtureRequest) -> LoadedRecipe:
    """The recipe; where a file of weights is not here, its network starts at random."""
    path, preset = request.param
    chosen = [f"preset={preset}"] if preset else []
    loaded = load(path, chosen)
    absent = [
        f"stages.{stage.id}.backbone.weights=null"
        for stage in loaded.recipe.stages
        if isinstance(weights := getattr(getattr(stage, "backbone", None), "weights", None), str)
        and weights != "imagenet"
        and not (loaded.base / weights).exists()
    ]
    return load(path, chosen + absent)


def test_a_recipe_bears_its_file_s_name_and_says_what_it_is_for(recipe: LoadedRecipe) -> None:
    assert recipe.recipe.name == Path(recipe.origin).stem
    assert recipe.recipe.description


def test_stages_of_a_recipe_can_be_built(recipe: LoadedRecipe) -> None:
    before = torch.get_default_device()
    for stage in recipe.recipe.stages:
        stage.check(CLASSES, recipe.base, Ranks())
    assert torch.get_default_device() == before


def test_nothing_is_chosen_on_ground_truth(recipe: LoadedRecipe) -> None:
    evaluations = {stage.id for stage in recipe.recipe.stages if stage.mask_splits()}
    for stage in recipe.recipe.stages:
        assert not evaluations & {name for _, name, _ in stage.references()}, stage.id


def test_the_committed_schema_is_the_program_s() -> None:
    assert (ROOT / "recipes/schema.json").read_text() == schema_text(), "run: camshaft schema > recipes/schema.json"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_schema_accepts_every_file_and_rejects_a_wrong_one(
    path: Path, validator: jsonschema.Draft202012Validator
) -> None:
    value = parse(path.read_text(), str(path)).value
    assert validator.is_valid(value)
    for wrong in ({"stages": [{"id": "ordinary", "epochz": 3}]}, {"presets": {"paper": {"nme": "x"}}}, {"remove": "a"}):
        assert not validator.is_valid({**value, **wrong})


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_variant_of_a_sweep_can_be_built(path: Path) -> None:
    sweep = load_sweep(path)
    assert sweep.name == path.stem
    assert sweep.description
    distinct = {repr(stage): stage for variant in sweep.variants for stage in variant.loaded.recipe.stages}
    for stage in distinct.values():
        stage.check(CLASSES, sweep.variants[0].loaded.base, Ranks())


def test_all_recipes_are_found() -> None:
    assert {"demo", "demo_voc", "voc6_mini", "voc6_drs", "voc_drs"} <= {path.stem for path in RECIPES}
    assert {"drs_controller", "drs_layers", "drs_refinement"} <= {path.stem for path in SWEEPS}
    assert Recipe.model_fields.keys() >= {"name", "data", "stages"}
