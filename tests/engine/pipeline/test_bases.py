"""Recipes over a base, as a whole: where errors are, where paths start, and what is recognised as done."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from camshaft.engine.cli.main import main
from camshaft.engine.errors import CamshaftError, RecipeError
from camshaft.engine.pipeline.plan import plan
from camshaft.engine.pipeline.recipe import load

Write = Callable[[Mapping[str, Any]], Path]


@pytest.fixture
def child(tiny: dict[str, Any], write_recipe: Write, tmp_path: Path) -> Callable[[str], Path]:
    """Write a recipe over tiny (recipe.yaml), in a folder of its own."""
    tiny["stages"] = [stage for stage in tiny["stages"] if stage["id"] in {"ordinary", "drs", "maps_drs", "scores"}]
    tiny["stages"][-1]["of"] = ["maps_drs"]
    write_recipe(tiny)

    def write(text: str) -> Path:
        path = tmp_path / "sub/child.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as error:
        load(path, overrides)
    return str(error.value)


def fingerprints(path: Path, run: Path) -> dict[str, str]:
    return {stage.id: stage.folder.name for stage in plan(load(path), run)}


def test_problems_are_placed_in_the_file_that_has_to_change(
    child: Callable[[str], Path], tiny: dict[str, Any], write_recipe: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny["stages"][0]["epochs"] = 0
    base = write_recipe(tiny)
    monkeypatch.chdir(base.parent)
    line = base.read_text().splitlines().index("  epochs: 0") + 1
    text = message(child("base: ../recipe.yaml\nname: child\nstages:\n  - {id: drs, epoch: 3}\n"))
    assert (
        f"stages.ordinary.epochs: Input should be greater than or equal to 1, not 0 (recipe.yaml, line {line})" in text
    )
    assert "stages.drs.epoch: unknown key 'epoch'; did you mean 'epochs'? (line 4)" in text


def test_an_overridden_value_is_not_blamed_on_a_line(child: Callable[[str], Path]) -> None:
    path = child("base: ../recipe.yaml\n")
    assert message(path, "stages.drs.epochs=0").endswith("greater than or equal to 1, not 0")


def test_stages_that_a_child_leaves_alone_are_done_in_a_shared_folder(
    child: Callable[[str], Path], tmp_path: Path
) -> None:
    base = fingerprints(tmp_path / "recipe.yaml", tmp_path / "run")
    same = fingerprints(child("base: ../recipe.yaml\nname: other\ndescription: y\n"), tmp_path / "run")
    assert same == base
    changed = fingerprints(
        child("base: ../recipe.yaml\nstages: [{id: drs, suppression: {layers: [stage6]}}]\n"), tmp_path / "run"
    )
    assert changed["ordinary"] == base["ordinary"]
    assert {name for name in base if base[name] != changed[name]} == {"drs", "maps_drs", "scores"}


def test_paths_start_where_they_are_written(child: Callable[[str], Path], tmp_path: Path) -> None:
    """The base's data beside the base, a child's weights beside the child, the command line's beside the child."""
    base = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    base["data"] = {"kind": "folder", "root": "photos"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(base))
    path = child("base: ../recipe.yaml\nstages: [{id: drs, backbone: {weights: w.safetensors}}]\n")

    def paths(*overrides: str) -> tuple[Path, Path]:
        loaded = load(path, overrides)
        drs = next(stage for stage in loaded.recipe.stages if stage.id == "drs")
        weights = drs.backbone.weights  # type: ignore[attr-defined]
        return (loaded.base / loaded.recipe.data.root).resolve(), (loaded.base / weights).resolve()  # type: ignore[union-attr]

    assert paths() == (tmp_path / "photos", tmp_path / "sub/w.safetensors")
    assert paths("data.root=own", "stages.drs.backbone.weights=../v.pth") == (
        tmp_path / "sub/own",
        tmp_path / "v.pth",
    )
    assert paths("data.root=/abs")[0] == Path("/abs")
    (ordinary,) = (stage for stage in load(path).recipe.stages if stage.id == "ordinary")
    assert ordinary.backbone.weights == "imagenet"  # type: ignore[attr-defined]


def test_the_word_imagenet_is_no_path(child: Callable[[str], Path]) -> None:
    path = child("base: ../recipe.yaml\nstages: [{id: drs, backbone: {weights: imagenet}}]\n")
    assert next(s for s in load(path).recipe.stages if s.id == "drs").backbone.weights == "imagenet"  # type: ignore[attr-defined]


def test_show_prints_the_whole_and_where_it_comes_from(
    child: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = child(
        "base: ../recipe.yaml\nname: child\npreset: long\n"
        "presets:\n  long: {stages: [{id: drs, epochs: 9}]}\n  short: {stages: [{id: drs, epochs: 1}]}\n"
    )
    assert main(["show", str(path)]) == 0
    shown = capsys.readouterr().out
    value = yaml.safe_load(shown)
    assert value["name"] == "child"
    assert {stage["id"]: stage.get("epochs") for stage in value["stages"]}["drs"] == 9
    assert "base" not in value
    assert f"# relative paths start at {tmp_path}\n" in shown
    assert "# preset: long\n" in shown
    assert main(["show", str(path), "preset=short"]) == 0
    assert "# preset: short\n" in capsys.readouterr().out
    assert main(["show", str(path), "preset=shrt"]) == 2
    assert "there is no preset 'shrt'; there are long, short" in capsys.readouterr().err


def test_a_sweep_is_no_recipe(child: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = child("base: ../recipe.yaml\nname: child\nvariants: [{name: a}]\n")
    with pytest.raises(CamshaftError, match=r"child\.yaml: is a sweep, for it has variants: camshaft sweep runs those"):
        load(path)
