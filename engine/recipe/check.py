"""Turning pydantic's findings into one message: every wrong key of a recipe, with its path, line and what is right."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from camshaft.engine.recipe.yaml import Document, Key

_SAID = {
    "missing": "is missing",
    "too_short": "must have at least {min_length} of them, not {actual_length}",
    "union_tag_not_found": "the key {discriminator} is missing, which says what this is",
}
"""What is said of some of pydantic's errors, filled in from their context."""
_EXPECTED = {
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
}
"""What pydantic's types are in YAML."""


def problems_of(error: ValidationError, model: type[BaseModel], document: Document) -> list[str]:
    """A line for each finding of pydantic about `document`: path, what is wrong, what is right, line of the file."""
    names = _field_names(model)
    return [
        problem
        for details in error.errors(include_url=False)
        for problem in _problem(details, document, names).splitlines()
    ]


def report(origin: str, problems: list[str]) -> str:
    """One message of all problems of a recipe."""
    if len(problems) == 1:
        return f"{origin}: {problems[0]}"
    return f"{origin}: {len(problems)} problems\n" + "\n".join(f"  {problem}" for problem in problems)


def _field_names(model: type[BaseModel]) -> list[str]:
    """Every key that occurs anywhere in the model, for suggestions."""
    schema = model.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return sorted({name for part in parts for name in part.get("properties", {})})


def _problem(details: ErrorDetails, document: Document, names: list[str]) -> str:
    if details["loc"] == ():  # found by a validator of the whole recipe, whose lines have their own paths
        return details["msg"].removeprefix("Value error, ")
    key, missing = _locate(details["loc"], document.value)
    path = _path(key, missing if details["type"] == "missing" else None, document.value)
    text = _text(details, path.rpartition(".")[2], names)
    return f"{path}: {text}{_place(key, document)}"


def _place(key: Key, document: Document) -> str:
    """Where a value is written, in parentheses; nothing where it stands in no file."""
    line = document.lines.get(key)
    if line is None:
        return ""
    file = document.files.get(key)
    return f" (line {line})" if file is None else f" ({file}, line {line})"


def _locate(location: tuple[int | str, ...], value: Any) -> tuple[Key, str | None]:
    """The key in the document that pydantic's location speaks of, and the name of a key that is not there.

    pydantic puts names of its own into locations (a union's tag): what the document does not have is passed over.
    """
    key: list[str | int] = []
    missing: str | None = None
    for part in location:
        if _has(value, part):
            value = value[part]
            key.append(part)
            missing = None
        elif isinstance(part, str):
            missing = part
    return tuple(key), missing


def _has(value: Any, part: int | str) -> bool:
    if isinstance(value, list):
        return isinstance(part, int) and 0 <= part < len(value)
    return isinstance(value, dict) and part in value


def _path(key: Sequence[Any], missing: str | None, document: Any) -> str:
    names: list[str] = []
    value: Any = document
    for part in key:
        value = value[part]
        named = isinstance(part, int) and isinstance(value, dict) and "id" in value
        names.append(str(value["id"]) if named else str(part))
    if missing is not None:
        names.append(missing)
    return ".".join(names) or "the recipe"


def _text(details: ErrorDetails, name: str, names: list[str]) -> str:
    kind, value = details["type"], details.get("input")
    context: Mapping[str, Any] = details.get("ctx", {})
    if kind in _SAID:
        return _SAID[kind].format(**context)
    if kind == "extra_forbidden":
        # A key that has its place elsewhere is no misspelling.
        return f"unknown key {name!r}" + (suggestion(name, names) if name not in names else "")
    if kind == "union_tag_invalid":
        tags = [tag.strip("' ") for tag in str(context["expected_tags"]).split(",")]
        hint = suggestion(str(context["tag"]), tags)
        return f"unknown {context['discriminator']} {context['tag']!r}{hint} (there are {', '.join(tags)})"
    if kind in _EXPECTED:
        return f"must be {_EXPECTED[kind]}" + (f", not {_shown(value)}" if _is_plain(value) else "")
    message = details["msg"].removeprefix("Value error, ")
    shown = _shown(value) if _is_plain(value) else ""
    return f"{message}" + (f", not {shown}" if shown and shown not in message else "")


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | None)


def _shown(value: Any) -> str:
    """A plain value as YAML has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


def suggestion(name: str, known: Sequence[str], otherwise: str = "") -> str:
    """What to put behind "there is no NAME": the known name that is most like it, or `otherwise` where none is."""
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]!r}?" if close else otherwise
