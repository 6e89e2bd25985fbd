"""YAML 1.2 scalars on PyYAML's safe loader, with the line of every key.

PyYAML follows YAML 1.1, in which `1e-3` is a string, `on` is true and `012` is ten. Here scalars follow YAML 1.2's core
schema, a key that stands twice is an error, and nothing but plain values can be constructed.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from camshaft.engine.errors import RecipeError

Key = tuple[str | int, ...]
"""The way to a value: keys of mappings and positions in lists."""


class _Loader(yaml.SafeLoader):
    """The safe loader with YAML 1.2's core schema instead of 1.1's implicit types."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own attribute, which add_implicit_resolver fills

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse explicit tags: a value is what it looks like."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise _TaggedError(problem=event.tag, problem_mark=event.start_mark)
        if "\0" in (getattr(event, "value", None) or ""):  # no name, path or description can hold it
            raise yaml.constructor.ConstructorError(None, None, "a value holds the character NUL", event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


class _TaggedError(yaml.MarkedYAMLError):
    """An explicit tag, which is the problem's text."""


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    try:
        return int(text, 0) if re.match(r"0[ox]", text) else int(text, 10)
    except ValueError:  # Python's bound on the digits of integers
        problem = f"a number of {len(text)} digits is too long"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(str(loader.construct_scalar(node)).replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)$"),
    list("-+.0123456789"),
)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


@dataclass(frozen=True)
class Document:
    """A YAML document's value, and the line (from 1) on which each of its values stands.

    Where several files were merged into one document, `files` names the file of each value that does not stand in the
    document's own. A value that the command line gave stands in no file and has no line.
    """

    value: Any
    lines: dict[Key, int]
    files: dict[Key, Path] = field(default_factory=dict)


def parse(text: str, origin: str) -> Document:
    """Parse one YAML document.

    Args:
        text: the document.
        origin: the file's name, for messages.

    Raises:
        RecipeError: not YAML, more than one document, a key that stands twice, or an explicit tag (`!!int 3`).
    """
    return _parsed(text, lambda line: origin if line is None else f"{origin}:{line}")


def parse_scalar(text: str, origin: str = "the value") -> Any:
    """The value that `text` would have in a recipe, as in `lr=1e-3` or `scales=[0.5, 1]`.

    Raises:
        RecipeError: as `parse`; its message begins with `origin`.
    """
    return _parsed(text, lambda _: origin).value if text.strip() else None


def _parsed(text: str, place: Callable[[int | None], str]) -> Document:
    """The document; `place` says in messages where a line (from 1; None: not known) stands."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise RecipeError(f"{place(None)}: is empty")
        lines: dict[Key, int] = {}
        _collect_lines(node, (), lines, place)
        return Document(_unshared(loader.construct_document(node)), lines)
    except yaml.MarkedYAMLError as error:
        where = place(error.problem_mark.line + 1 if error.problem_mark else None)
        if isinstance(error, _TaggedError):
            raise RecipeError(f"{where}: a value can't have a tag here ({error.problem}); leave it out") from None
        raise RecipeError(f"{where}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{place(None)}: not valid YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise RecipeError(
            f"{place(None)}: not a recipe: an alias stands within its own anchor, or nesting is too deep"
        ) from None


def _unshared(value: Any) -> Any:
    """A copy in which an anchor and its aliases are separate values, so that changing one leaves the others."""
    if isinstance(value, dict):
        return {name: _unshared(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_unshared(item) for item in value]
    return value


def _collect_lines(node: yaml.Node, key: Key, lines: dict[Key, int], place: Callable[[int | None], str]) -> None:
    lines[key] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for name_node, value_node in node.value:
            child = (*key, str(name_node.value))
            if child in lines:
                raise RecipeError(
                    f"{place(name_node.start_mark.line + 1)}: key {name_node.value!r} stands twice, "
                    f"first in line {lines[child]}"
                )
            _collect_lines(value_node, child, lines, place)
            lines[child] = name_node.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            _collect_lines(item, (*key, position), lines, place)
