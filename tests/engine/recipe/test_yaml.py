"""YAML as recipes have it: 1.2's scalars, lines of keys, and nothing that builds objects."""

import math

import pytest

from camshaft.engine.errors import RecipeError
from camshaft.engine.recipe.yaml import parse, parse_scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("5e-4", 0.0005),
        ("+.5", 0.5),
        ("012", 12),
        ("0x1F", 31),
        ("0o17", 15),
        ("on", "on"),
        ("yes", "yes"),
        ("no", "no"),
        ("true", True),
        ("~", None),
        ("null", None),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("[0.5, 1, 1.5]", [0.5, 1, 1.5]),
        ("'1'", "1"),
        ("", None),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    parsed = parse_scalar(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_infinity_and_nan() -> None:
    assert parse_scalar("-.inf") == -math.inf
    assert math.isnan(parse_scalar(".nan"))


def test_lines_of_keys() -> None:
    document = parse("name: x\nstages:\n  - id: a\n    epochs: 3\n  - {id: b}\n", "r.yaml")
    assert document.lines[("name",)] == 1
    assert document.lines[("stages",)] == 2
    assert document.lines[("stages", 0, "epochs")] == 4
    assert document.lines[("stages", 1)] == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "r.yaml:3: key 'a' stands twice, first in line 1"),
        ("a: [1, 2\n", "r.yaml:2: not valid YAML"),
        ("a: b: c\n", "r.yaml:1: not valid YAML"),
        ("a: 1\n---\nb: 2\n", "r.yaml:2: not valid YAML"),
        ("a: \x00\n", "r.yaml: not valid YAML"),
        ('a: 1\nb: ["x\\0y"]\n', "r.yaml:2: not valid YAML: a value holds the character NUL"),
        ("", "r.yaml: is empty"),
        ("a: &x [*x]\n", "an alias stands within its own anchor"),
        (
            "a: !!python/object/apply:os.system [ls]\n",
            "r.yaml:1: a value can't have a tag here (tag:yaml",
        ),
        ("a: !!python/name:os.system\n", "r.yaml:1: a value can't have a tag here"),
        ("a: 1\nb: !!int abc\n", "r.yaml:2: a value can't have a tag here (tag:yaml.org,2002:int); leave it out"),
        ("a: 1\nb: [!!str 5]\n", "r.yaml:2: a value can't have a tag here"),
        ("a: 1\nb: !mine {c: 1}\n", "r.yaml:2: a value can't have a tag here (!mine)"),
        ("a: ! 5\n", "r.yaml:1: a value can't have a tag here"),
        ("!!set a: 1\n", "r.yaml:1: a value can't have a tag here"),
        ("a: 1\nb: " + "9" * 5000, "r.yaml:2: not valid YAML: a number of 5000 digits is too long"),
    ],
)
def test_what_is_not_a_recipe_is_named(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        parse(text, "r.yaml")
    assert message in str(error.value)
