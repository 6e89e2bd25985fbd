"""Dotted overrides."""

import copy
from typing import Any

import pytest

from camshaft.engine.errors import RecipeError
from camshaft.engine.recipe.overrides import apply
from camshaft.engine.recipe.yaml import parse

RECIPE: dict[str, Any] = {
    "seed": 0,
    "data": {"kind": "scenes", "images": {"train": 8}},
    "stages": [{"id": "ordinary", "epochs": 2}, {"id": "cgnet", "scales": [0.5, 1.0]}],
}


def applied(override: str) -> dict[str, Any]:
    recipe = copy.deepcopy(RECIPE)
    apply(recipe, override)
    return recipe


def test_values_are_found_by_key_id_and_position() -> None:
    assert applied("seed=7")["seed"] == 7
    assert applied("data.images.train=16")["data"]["images"] == {"train": 16}
    assert applied("stages.cgnet.weight=1e-3")["stages"][1]["weight"] == 0.001
    assert applied("stages.0.epochs=5")["stages"][0]["epochs"] == 5
    assert applied("stages.cgnet.scales.1=2")["stages"][1]["scales"] == [0.5, 2]
    assert applied("data.root=a=b")["data"]["root"] == "a=b"


def test_what_is_left_at_its_default_can_be_changed_in_part() -> None:
    assert applied("stages.cgnet.crf.bilateral.sxy=60")["stages"][1]["crf"] == {"bilateral": {"sxy": 60}}
    recipe = {"stages": [{"id": "a", "warm_up": None}]}
    apply(recipe, "stages.a.warm_up.steps=5")
    assert recipe == {"stages": [{"id": "a", "warm_up": {"steps": 5}}]}


def test_nothing_else_changes() -> None:
    changed = applied("stages.ordinary.epochs=9")
    changed["stages"][0]["epochs"] = 2
    assert changed == RECIPE


def test_an_anchor_s_aliases_are_changed_one_by_one() -> None:
    recipe = parse("stages: [{id: a, net: &net {depth: 1}}, {id: b, net: *net}]", "r.yaml").value
    apply(recipe, "stages.b.net.depth=2")
    assert [stage["net"]["depth"] for stage in recipe["stages"]] == [1, 2]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.cgnet", "expected path=value"),
        ("=3", "expected path=value"),
        ("a..b=3", "expected path=value"),
        ("stages.cgnt.epochs=3", "stages has no 'cgnt'; there are ordinary, cgnet"),
        ("dta.kind=voc", "the recipe has no 'dta'; there are seed, data, stages"),
        ("seed.x=3", "seed is a plain value"),
        ("seed.x.y=3", "seed has no 'x'"),
        ("stages.5.epochs=3", "stages has no '5'"),
        ("stages.cgnet.scales=[0.5, 1", "override 'stages.cgnet.scales=[0.5, 1': not valid YAML: "),
        ("seed={a: 1, a: 2}", "override 'seed={a: 1, a: 2}': key 'a' stands twice"),
        ("seed=!!int 3", "override 'seed=!!int 3': a value can't have a tag"),
    ],
)
def test_a_path_that_does_not_exist_is_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        applied(override)
    assert message in str(error.value)
