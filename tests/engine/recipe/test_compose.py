"""Bases, presets and overrides: which file wins, and what is said of the one that is wrong."""

from pathlib import Path
from typing import Any

import pytest

from camshaft.engine.errors import RecipeError
from camshaft.engine.recipe.compose import Composed, compose, read_chain

BASE = """\
name: base
seed: 1
a: {x: 1, y: 1, z: 1}
presets:
  paper: {a: {x: 10, y: 10}}
  official: {a: {x: 20, y: 20}, remove: [seed]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "sub/child.yaml").write_text("base: ../base.yaml\nname: child\npreset: paper\na: {y: 2}\n")
    return tmp_path


def composed(path: str, *overrides: str) -> Composed:
    return compose(read_chain(Path(path)), overrides)


def message(path: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as error:
        composed(path, *overrides)
    return str(error.value)


def value(path: str, *overrides: str) -> Any:
    return composed(path, *overrides).document.value


def test_without_a_preset_nothing_of_them_is_taken(folder: Path) -> None:
    assert value("base.yaml") == {"name": "base", "seed": 1, "a": {"x": 1, "y": 1, "z": 1}}


def test_a_childs_own_keys_outdo_its_bases_preset(folder: Path) -> None:
    assert value("sub/child.yaml")["a"] == {"x": 10, "y": 2, "z": 1}
    assert composed("sub/child.yaml").preset == "paper"


def test_the_command_line_has_the_last_word(folder: Path) -> None:
    found = composed("sub/child.yaml", "preset=official", "a.y=3")
    assert found.document.value == {"name": "child", "a": {"x": 20, "y": 3, "z": 1}}
    assert found.preset == "official"
    assert value("sub/child.yaml", "preset=null")["a"] == {"x": 1, "y": 2, "z": 1}


def test_an_overridden_value_stands_in_no_file(folder: Path) -> None:
    document = composed("sub/child.yaml", "a={x: 5}", "seed=7").document
    assert ("a", "x") not in document.lines
    assert ("a", "x") not in document.files
    assert ("seed",) not in document.lines
    assert document.lines["name",] == 2


def test_a_files_own_block_comes_after_its_own_keys(folder: Path) -> None:
    (folder / "top.yaml").write_text(
        "base: sub/child.yaml\npreset: official\na: {x: 3, y: 3, z: 3}\npresets: {official: {a: {z: 4}}}\n"
    )
    assert value("top.yaml") == {"name": "child", "a": {"x": 3, "y": 3, "z": 4}}


def test_a_chain_may_be_long_and_its_files_are_named(folder: Path) -> None:
    for number in range(20):
        below = "base" if number == 0 else f"n{number - 1}"
        (folder / f"n{number}.yaml").write_text(f"base: {below}.yaml\na: {{k{number}: {number}}}\n")
    chain = read_chain(Path("n19.yaml"))
    assert [str(file.file) for file in chain.files[:2]] == ["base.yaml", "n0.yaml"]
    assert len(compose(chain, ()).document.value["a"]) == 23


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("base: top.yaml\n", "top.yaml:1: top.yaml → top.yaml is a cycle of bases"),
        ("name: x\nbase: none.yaml\n", "top.yaml:2: base: none.yaml: can't be read: No such file or directory"),
        ("base: [base.yaml]\n", "top.yaml:1: base is the path of another recipe"),
        ("base: sub\n", "top.yaml:1: base: sub: can't be read: Is a directory"),
        ("base: list.yaml\n", "list.yaml: a recipe is a mapping"),
        ("base: broken.yaml\n", "broken.yaml:2: not valid YAML"),
        ("base: base.yaml\npreset: mine\n", "top.yaml:2: there is no preset 'mine'; there are paper, official"),
        ("name: x\npreset: mine\n", "top.yaml:2: there is no preset 'mine'; the recipe has no presets"),
        ("base: base.yaml\npresets: [a]\n", "top.yaml:2: presets is a mapping of names to changes"),
        ("base: base.yaml\npresets:\n  mine: 3\n", "top.yaml:3: the preset 'mine' must be a name with a mapping"),
        ("base: base.yaml\nremove: [seeds]\n", "top.yaml:2: remove 'seeds': the recipe below has no 'seeds'"),
    ],
)
def test_what_is_wrong_is_said_with_its_file_and_line(folder: Path, text: str, expected: str) -> None:
    (folder / "list.yaml").write_text("- a\n")
    (folder / "broken.yaml").write_text("a: [\n")
    (folder / "top.yaml").write_text(text)
    assert expected in message("top.yaml")


def test_a_cycle_names_all_its_files(folder: Path) -> None:
    (folder / "one.yaml").write_text("base: sub/two.yaml\n")
    (folder / "sub/two.yaml").write_text("name: x\nbase: ../three.yaml\n")
    (folder / "three.yaml").write_text("base: one.yaml\n")
    assert message("one.yaml") == "three.yaml:1: one.yaml → sub/two.yaml → three.yaml → one.yaml is a cycle of bases"


def test_a_preset_of_the_command_line_that_is_not_there(folder: Path) -> None:
    assert "override 'preset=ofical': there is no preset 'ofical'; there are paper, official" in message(
        "sub/child.yaml", "preset=ofical"
    )
