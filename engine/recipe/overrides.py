"""Dotted overrides: `stages.cgnet.epochs=5` changes one value of a recipe before it is checked."""

from typing import Any

from camshaft.engine.errors import RecipeError
from camshaft.engine.recipe.yaml import Key, parse_scalar


def apply(value: dict[str, Any], override: str) -> Key:
    """Change `value`, a parsed recipe, in place by one `path=value`.

    A list's items are named by their `id`, or by their position. The first key must exist; those below it may be new,
    for what the recipe leaves at its default (whether they are allowed is checked with the whole recipe).

    Returns:
        The way to the changed value.

    Raises:
        RecipeError: not of the form path=value, a part of the path does not exist, or the value is not YAML.
    """
    path, equals, text = override.partition("=")
    parts = path.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"override {override!r}: expected path=value, as in stages.cgnet.epochs=5")
    here: Any = value
    key: list[str | int] = []
    for depth, part in enumerate(parts[:-1]):
        if depth and isinstance(here, dict) and here.get(part) is None:
            here[part] = {}
        key.append(_step(here, part, ".".join(parts[:depth]) or "the recipe", override))
        here = here[key[-1]]
    new = parse_scalar(text, f"override {override!r}")
    if isinstance(here, list):
        key.append(_position(here, parts[-1], ".".join(parts[:-1]), override))
    elif isinstance(here, dict):
        key.append(parts[-1])
    else:
        raise RecipeError(f"override {override!r}: {'.'.join(parts[:-1])} is a plain value and has no keys")
    here[key[-1]] = new
    return tuple(key)


def _step(here: Any, part: str, where: str, override: str) -> str | int:
    """The key or position in `here` that `part` names."""
    if isinstance(here, list):
        return _position(here, part, where, override)
    if isinstance(here, dict) and part in here:
        return part
    known = f"; there are {', '.join(map(str, here))}" if isinstance(here, dict) else ""
    raise RecipeError(f"override {override!r}: {where} has no {part!r}{known}")


def _position(items: list[Any], part: str, where: str, override: str) -> int:
    names = [str(item["id"]) if isinstance(item, dict) and "id" in item else str(i) for i, item in enumerate(items)]
    if part in names:
        return names.index(part)
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    raise RecipeError(f"override {override!r}: {where} has no {part!r}; there are {', '.join(names)}")
