"""The command line's grammar, and errors as a user sees them."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from camshaft.engine.cli.main import main

Write = Callable[[Mapping[str, Any]], Path]


def test_overrides_may_stand_before_and_after_options(
    tiny: dict[str, Any], write_recipe: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_recipe(tiny))
    assert main(["--local_rank=1", "show", path, "seed=5", "stages.cgnet.epochs=9"]) == 0
    text = capsys.readouterr().out
    assert "seed: 5" in text
    assert "epochs: 9" in text
    assert "# order: ordinary → drs → cgnet" in text


@pytest.mark.parametrize("arguments", [["run"], ["show", "r.yaml", "--what"], ["schema", "a=b"], ["nothing"]])
def test_what_the_grammar_lacks(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: camshaft" in capsys.readouterr().err


def test_a_users_mistake_is_one_message_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == f"camshaft: {tmp_path}/none.yaml: can't be read: No such file or directory\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data={kind: voc, root: ~no_such_user/voc}", "data.root: ~no_such_user is no user's folder on this machine"),
        ("stages.drs.backbone.weights=~no_such_user/x", "weights: ~no_such_user is no user's folder on this machine"),
        ("stages=3", "stages: must be a list, not 3"),
        ("data={kind: voc, root: x, classes: []}", "data.classes: must have at least 1 of them, not 0"),
        ("data=null", "data: must be a mapping of keys to values, not null"),
        ("stages.drs.epochs=true", "stages.drs.epochs: is a number, not true"),
        ("name=null", "name: Input should be a valid string, not null"),
        ("data={kind: voc, root: x, cache_mb: 3}", "data.cache_mb: unknown key 'cache_mb'\n"),
        ('data={kind: voc, root: "a\\0"}', "not valid YAML: a value holds the character NUL"),
    ],
)
def test_wrong_values_are_said_in_yaml_s_words(
    tiny: dict[str, Any], write_recipe: Write, capsys: pytest.CaptureFixture[str], change: str, message: str
) -> None:
    assert main(["show", str(write_recipe(tiny)), change]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("text", ["[]", "{}", '{"recipe": [], "base": "."}', '{"recipe": {}, "base": 3}', "3"])
def test_what_is_no_record_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    assert main(["report", str(tmp_path)]) == 1
    assert "not the record of a run of this version; run its recipe again" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["f.csv", "f", "."])
def test_a_figure_is_a_png(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["figure", "maps", str(tmp_path), "--stages", "maps", "--out", name]) == 1
    assert capsys.readouterr().err == f"camshaft: {name}: a figure is a PNG; name a file that ends in .png\n"


def test_doctor_names_what_will_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "deepspeed" in text
    assert "precision" in text
    for operation in ("suppress", "normalize", "erase"):
        assert re.search(rf"^{operation} +(triton|numba|torch)", text, re.MULTILINE)


def test_a_shown_recipe_is_a_recipe(
    tiny: dict[str, Any], write_recipe: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["show", str(write_recipe(tiny))])
    shown = capsys.readouterr().out
    again = tmp_path / "again.yaml"
    again.write_text(shown)
    assert main(["show", str(again)]) == 0
    assert capsys.readouterr().out == shown
