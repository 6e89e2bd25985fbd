"""Every shipped recipe is checked as far as a machine without its data can, and the schema is the program's own."""

import json
from pathlib import Path

import jsonschema
import pytest
import torch

from camshaft.engine.cli.show import schema_text
from camshaft.engine.pipeline.recipe import LoadedRecipe, Recipe, load
from camshaft.engine.recipe.yaml import parse
from camshaft.engine.runtime.ranks import Ranks

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))
CLASSES = ("cat", "cow", "dog", "horse", "person", "sheep")


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def recipe(request: pytest.FixtureRequest) -> LoadedRecipe:
    return load(request.param)


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


def test_the_schema_accepts_every_recipe_and_rejects_a_wrong_one(recipe: LoadedRecipe) -> None:
    schema = json.loads((ROOT / "recipes/schema.json").read_text())
    value = parse(Path(recipe.origin).read_text(), recipe.origin).value
    jsonschema.validate(value, schema)
    value["stages"][0]["epochz"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, schema)


def test_all_recipes_are_found() -> None:
    assert {"demo", "demo_voc", "voc6_mini"} <= {path.stem for path in RECIPES}
    assert Recipe.model_fields.keys() >= {"name", "data", "stages"}
