"""Sweeps are checked whole before anything runs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from camshaft.engine.cli.main import main
from camshaft.engine.errors import RecipeError
from camshaft.engine.pipeline.variants import load_sweep

Write = Callable[[Mapping[str, Any]], Path]
HEAD = "base: recipe.yaml\nname: deltas\n"
FIXED = "{id: drs, suppression: {controller: fixed, delta: %s}}"


@pytest.fixture
def sweep(tiny: dict[str, Any], write_recipe: Write, tmp_path: Path) -> Callable[[str], Path]:
    write_recipe(tiny)

    def write(text: str) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_text(text)
        return path

    return write


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as error:
        load_sweep(path, overrides)
    return str(error.value)


def two(more: str = "") -> str:
    return (
        f"{HEAD}{more}variants:\n  - {{name: a, description: first}}\n"
        f"  - {{name: b, stages: [{FIXED % 0.5}]}}\n"
    )  # fmt: skip


def test_a_variant_is_the_base_the_sweep_s_keys_and_its_own(sweep: Callable[[str], Path]) -> None:
    loaded = load_sweep(sweep(two("seed: 8\ndescription: which delta\n")), ["stages.ordinary.epochs=4"])
    assert (loaded.name, loaded.description) == ("deltas", "which delta")
    assert [(variant.name, variant.description) for variant in loaded.variants] == [("a", "first"), ("b", "")]
    for variant in loaded.variants:
        assert variant.loaded.recipe.seed == 8
        assert variant.loaded.recipe.name == "deltas"
        stages = {stage.id: stage for stage in variant.loaded.recipe.stages}
        assert stages["ordinary"].epochs == 4  # type: ignore[attr-defined]
    drs = [next(s for s in variant.loaded.recipe.stages if s.id == "drs") for variant in loaded.variants]
    assert [stage.suppression.controller for stage in drs] == ["learnable", "fixed"]  # type: ignore[attr-defined]


def test_presets_make_variants(sweep: Callable[[str], Path]) -> None:
    presets = "presets: {x: {seed: 5}, y: {seed: 6}}\n"
    path = sweep(f"{HEAD}{presets}variants: [{{name: a, preset: x}}, {{name: b, preset: y}}]\n")
    assert [variant.loaded.recipe.seed for variant in load_sweep(path).variants] == [5, 6]
    assert "variants.b: asks for the same as a" in message(path, "preset=x")


def test_everything_wrong_with_any_variant_is_said_at_once(sweep: Callable[[str], Path]) -> None:
    text = message(
        sweep(
            f"{HEAD}variants:\n  - {{name: a, stages: [{FIXED % 1.5}]}}\n  - name: b\n    stages: [{{id: dsr}}]\n"
            "  - {name: c, remove: [stages.maps]}\n  - {name: d}\n"
        )
    )
    assert "sweep.yaml: 3 problems" in text
    assert "variants.a: stages.drs.suppression.delta: Input should be less than or equal to 1, not 1.5 (line 4)" in text
    assert "variants.b: " in text
    assert "sweep.yaml:6: the base has no stage 'dsr' to change" in text
    assert "variants.c: 2 problems" in text
    assert "there is no stage 'maps'" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("base: recipe.yaml\nname: x\n", "sweep.yaml: has no variants, so it is no sweep: camshaft run runs a recipe"),
        ("base: recipe.yaml\nvariants: [{name: a}]\n", "sweep.yaml: name: is missing"),
        (f"{HEAD}variants: []\n", "variants: must have at least 1 of them, not 0"),
        (f"{HEAD}variants: [{{name: a}}, {{name: a}}]\n", "variants: 'a' stands more than once"),
        (f"{HEAD}variants: [{{name: ../a}}]\n", "variants.0.name: String should match pattern"),
        (f"{HEAD}variants:\n  - {{seed: 3}}\n", "variants.0.name: is missing (line 4)"),
        (f"{HEAD}variants: [{{name: a, base: x.yaml}}]\n", "sweep.yaml:3: base belongs to the file, not to a variant"),
        (f"{HEAD}variants: [{{name: a}}, {{name: b}}]\n", "variants.b: asks for the same as a"),
        (two("columns: [maps_dsr]\n"), "columns.maps_dsr: no variant has a stage 'maps_dsr'; did you mean 'maps_drs'?"),
        (two("columns: [drs]\n"), "columns.drs: 'drs' is evaluated in no variant; STAGE.FIGURE names a figure"),
        ("base: sweep2.yaml\nname: x\nvariants: [{name: a}]\n", "is a sweep, which can't be the base of another file"),
    ],
)
def test_what_is_no_sweep(sweep: Callable[[str], Path], tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "sweep2.yaml").write_text(two())
    assert expected in message(sweep(text))


def test_a_dry_run_says_what_variants_share(
    sweep: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", str(sweep(two())), "--dry-run", "--out", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    first, second = lines.index("variant a"), lines.index("variant b")
    assert any(line.startswith("  ordinary: to do (classify, ordinary-") for line in lines[first:second])
    assert any(line.startswith("  ordinary: as in a (classify, ordinary-") for line in lines[second:])
    assert any(line.startswith("  drs: to do (classify, drs-") for line in lines[second:])
    assert not (tmp_path / "run").exists()
