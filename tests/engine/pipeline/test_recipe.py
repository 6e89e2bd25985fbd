"""Recipes: what is wrong is said all at once, with paths and lines, before anything runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from camshaft.engine.errors import RecipeError
from camshaft.engine.pipeline.recipe import load

Write = Callable[[dict[str, Any]], Path]


def stage(recipe: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in recipe["stages"] if item["id"] == name)


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as error:
        load(path, overrides)
    return str(error.value)


def test_the_order_follows_from_the_inputs(tiny: dict[str, Any], write_recipe: Write) -> None:
    tiny["stages"].reverse()
    ordered = [item.id for item in load(write_recipe(tiny)).recipe.ordered()]
    for later, earlier in [("cgnet", "ordinary"), ("maps", "cgnet"), ("labels", "crf"), ("scores", "prediction")]:
        assert ordered.index(later) > ordered.index(earlier)
    assert sorted(ordered) == sorted(item["id"] for item in tiny["stages"])


def test_all_problems_come_at_once(tiny: dict[str, Any], write_recipe: Write) -> None:
    stage(tiny, "ordinary")["epoch"] = 3
    stage(tiny, "cgnet")["guide"] = "ordinry"
    stage(tiny, "maps")["network"] = "deeplab"
    stage(tiny, "drs")["suppression"]["delta"] = 1.5
    stage(tiny, "labels")["kind"] = "label"
    text = message(write_recipe(tiny))
    assert "stages.ordinary.epoch: unknown key 'epoch'; did you mean 'epochs'?" in text
    assert "stages.drs.suppression.delta: Input should be less than or equal to 1, not 1.5" in text
    assert "stages.labels: unknown 'kind' 'label'; did you mean 'labels'?" in text
    assert "stages.cgnet.guide: there is no stage 'ordinry'; did you mean 'ordinary'?" in text
    assert (
        "stages.maps.network: 'deeplab' makes a segmentation network, but a classifier or a refinement network" in text
    )
    assert "(line " in text


def test_a_cycle_is_named(tiny: dict[str, Any], write_recipe: Write) -> None:
    stage(tiny, "ordinary").update(kind="erase", guide="cgnet")
    assert "stages: ordinary → cgnet → ordinary is a cycle" in message(write_recipe(tiny))


def test_an_id_stands_once(tiny: dict[str, Any], write_recipe: Write) -> None:
    stage(tiny, "drs")["id"] = "ordinary"
    text = message(write_recipe(tiny))
    assert "the id 'ordinary' stands more than once" in text


def test_a_split_that_an_input_lacks(tiny: dict[str, Any], write_recipe: Write) -> None:
    stage(tiny, "crf")["splits"] = ["val"]
    text = message(write_recipe(tiny))
    assert "stages.labels.crf: 'crf' works on val only, but train is needed here; add it to stages.crf.splits" in text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"maps": "maps"}, "labels are made from either maps or crf"),
        ({"crf": None}, "labels are made from either maps or crf"),
        ({"id": "Bad Id"}, "String should match pattern"),
    ],
)
def test_stages_check_themselves(
    tiny: dict[str, Any], write_recipe: Write, change: dict[str, Any], expected: str
) -> None:
    stage(tiny, "labels").update(change)
    assert expected in message(write_recipe(tiny))


def test_guidance_and_guide_go_together(tiny: dict[str, Any], write_recipe: Write) -> None:
    stage(tiny, "cgnet")["guidance"] = "shared"
    assert "guidance: shared takes no guide" in message(write_recipe(tiny))
    assert "guidance: fixed needs guide" in message(
        write_recipe(tiny), "stages.cgnet.guidance=fixed", "stages.cgnet.guide=null"
    )


def test_overrides_are_checked_with_the_rest(tiny: dict[str, Any], write_recipe: Write) -> None:
    path = write_recipe(tiny)
    assert load(path, ["stages.cgnet.epochs=7", "seed=9"]).recipe.seed == 9
    assert "stages.cgnet.epochs: Input should be greater than or equal to 1, not -1" in message(
        path, "stages.cgnet.epochs=-1"
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"- a\n- b\n", "a recipe is a mapping"),
        (b"\xff\xfe\x00", "not a UTF-8 text file"),
        (b"name: x\n", "stages: is missing"),
        (b"name: x\ndata: {}\nstages: []\n", "data: the key 'kind' is missing"),
        (b"name: ../x\ndata: {kind: scenes}\nstages: 3\n", "name: String should match pattern"),
    ],
)
def test_what_is_no_recipe(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    assert expected in message(path)


def test_a_missing_file(tmp_path: Path) -> None:
    assert "none.yaml: can't be read: No such file or directory" in message(tmp_path / "none.yaml")
