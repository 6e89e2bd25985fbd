"""One recipe over another, by hand and by properties."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camshaft.engine.errors import RecipeError
from camshaft.engine.recipe.merge import Node, applied, document_of, merged, plain, tree
from camshaft.engine.recipe.yaml import parse

BASE = """\
name: base
data: {kind: voc, root: photos, limit: {train: 8, val: 4}}
stages:
  - {id: ordinary, kind: classify, epochs: 2}
  - id: drs
    kind: classify
    epochs: 2
    suppression: {controller: fixed, delta: 0.55}
  - {id: scores, kind: evaluate, of: [ordinary, drs]}
"""


def node(text: str, file: str = "base.yaml") -> Node:
    return tree(parse(text, file), Path(file))


def over(text: str) -> Any:
    return plain(applied(node(text, "child.yaml"), node(BASE)))


def test_mappings_merge_and_lists_are_replaced() -> None:
    assert over("data: {limit: {train: 2}}")["data"] == {
        "kind": "voc",
        "root": "photos",
        "limit": {"train": 2, "val": 4},
    }
    assert over("stages: [{id: scores, of: [drs]}]")["stages"][2]["of"] == ["drs"]
    assert over("data: null")["data"] is None


def test_a_stage_changes_in_its_place_and_only_where_it_says() -> None:
    stages = over("stages: [{id: drs, suppression: {delta: 0.4}}, {id: maps, kind: maps}]")["stages"]
    assert [stage["id"] for stage in stages] == ["ordinary", "drs", "scores", "maps"]
    assert stages[1] == {
        "id": "drs",
        "kind": "classify",
        "epochs": 2,
        "suppression": {"controller": "fixed", "delta": 0.4},
    }
    assert stages[0] == {"id": "ordinary", "kind": "classify", "epochs": 2}


def test_another_kind_takes_the_place_whole() -> None:
    assert over("data: {kind: folder, root: own}")["data"] == {"kind": "folder", "root": "own"}
    assert over("data: {kind: voc, root: own}")["data"]["limit"] == {"train": 8, "val": 4}
    assert over("stages: [{id: drs, kind: erase, guide: ordinary}]")["stages"][1] == {
        "id": "drs",
        "kind": "erase",
        "guide": "ordinary",
    }


def test_removed_before_it_is_merged() -> None:
    text = "remove: [stages.drs, data.limit, stages.scores.of.0]\nstages: [{id: drs, kind: maps}]\n"
    value = over(text)
    assert value["data"] == {"kind": "voc", "root": "photos"}
    assert [stage["id"] for stage in value["stages"]] == ["ordinary", "scores", "drs"]
    assert value["stages"][1]["of"] == ["drs"]
    assert value["stages"][2] == {"id": "drs", "kind": "maps"}
    assert "remove" not in value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nremove: [stages.dsr]", "child.yaml:2: remove 'stages.dsr': stages has no 'dsr'; there are ordinary"),
        ("remove:\n  - seed", "child.yaml:2: remove 'seed': the recipe below has no 'seed'; there are name, data"),
        ("remove: [name.x]", "child.yaml:1: remove 'name.x': name has no 'x'"),
        ("remove: stages.drs", "child.yaml:1: remove is a list of paths"),
        ("remove: [3]", "child.yaml:1: remove is a list of paths"),
        (
            "stages:\n  - {id: drs, epochs: 1}\n  - {id: drs, epochs: 2}",
            "child.yaml:3: the stage 'drs' stands twice, first in line 2",
        ),
        ("stages:\n  - {id: dsr, epochs: 1}", "child.yaml:2: the base has no stage 'dsr' to change, and a new one"),
        ("stages: [{id: dsr}]", "did you mean 'drs'?"),
    ],
)
def test_what_does_not_fit_the_base(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        over(text)
    assert message in str(error.value)


def test_every_value_keeps_its_file_and_line() -> None:
    whole = applied(node("name: child\nstages:\n  - id: drs\n    epochs: 5\n", "child.yaml"), node(BASE))
    document = document_of(whole, Path("child.yaml"))
    assert document.lines["stages", 1, "epochs"] == 4
    assert ("stages", 1, "epochs") not in document.files
    assert document.lines["stages", 1, "suppression", "delta"] == 8
    assert document.files["stages", 1, "suppression", "delta"] == Path("base.yaml")
    assert document.lines["data", "root"] == 2
    assert document.value["name"] == "child"


def as_node(value: Any) -> Node:
    if isinstance(value, dict):
        return Node({name: as_node(item) for name, item in value.items()}, Path("x"), 1)
    return Node([as_node(item) for item in value] if isinstance(value, list) else value, Path("x"), 1)


LEAVES = st.one_of(st.integers(0, 9), st.booleans(), st.none(), st.lists(st.integers(0, 3), max_size=2))
TREES = st.recursive(
    LEAVES, lambda inner: st.dictionaries(st.sampled_from("abkind"), inner, max_size=3).map(dict), max_leaves=8
)
MAPPINGS = st.dictionaries(st.sampled_from(["a", "b", "kind"]), TREES, max_size=3)
STAGES = st.lists(
    st.fixed_dictionaries({"id": st.sampled_from("pqrs"), "kind": st.just("maps")}, optional={"x": TREES}),
    unique_by=lambda stage: stage["id"],
    max_size=4,
)

# Values of one shape: what is a mapping here is one everywhere, as in files that a schema accepts.
INNER = st.fixed_dictionaries({}, optional={"c": st.integers(0, 9)})
SHAPED = st.fixed_dictionaries(
    {},
    optional={
        "a": st.integers(0, 9),
        "b": st.lists(st.integers(0, 3), max_size=2),
        "m": st.fixed_dictionaries({}, optional={"a": st.integers(0, 9), "n": INNER}),
        "stages": st.lists(
            st.fixed_dictionaries(
                {"id": st.sampled_from("pqrs"), "kind": st.just("maps")}, optional={"x": st.integers(0, 9)}
            ),
            unique_by=lambda stage: stage["id"],
            max_size=4,
        ),
    },
)


@given(MAPPINGS, STAGES)
def test_nothing_over_a_recipe_is_the_recipe(values: dict[str, Any], stages: list[Any]) -> None:
    recipe = {**values, "stages": stages}
    assert plain(applied(as_node({}), as_node(recipe))) == recipe
    assert plain(applied(as_node(recipe), as_node({}))) == recipe
    assert plain(applied(as_node(recipe), as_node(recipe))) == recipe


@given(SHAPED, SHAPED, SHAPED)
def test_a_chain_of_bases_may_be_folded_from_either_end(a: Any, b: Any, c: Any) -> None:
    first, second, third = as_node(a), as_node(b), as_node(c)
    left = plain(applied(third, applied(second, first)))
    right = plain(applied(applied(third, second), first))
    assert left == right
    assert [stage["id"] for stage in left.get("stages", ())] == [stage["id"] for stage in right.get("stages", ())]


@given(TREES, TREES)
def test_merging_leaves_both_as_they_were(under: Any, above: Any) -> None:
    first, second = as_node(under), as_node(above)
    merged(first, second)
    assert plain(first) == under
    assert plain(second) == above
