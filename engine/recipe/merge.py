"""One recipe over another: mappings merge key by key, stages by their id, and all else is replaced.

Every value keeps the file and the line in which it is written, so that what is wrong with the whole is said of the file
that has to be changed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camshaft.engine.errors import RecipeError
from camshaft.engine.recipe.check import suggestion
from camshaft.engine.recipe.yaml import Document, Key

STAGES = "stages"
REMOVE = "remove"


@dataclass(frozen=True)
class Node:
    """A value of a recipe, and where it is written. Mappings and lists hold nodes again."""

    value: Any
    file: Path
    line: int

    @property
    def place(self) -> str:
        """File and line, as messages begin."""
        return f"{self.file}:{self.line}"

    def less(self, *names: str) -> "Node":
        """This mapping without some of its keys."""
        return Node({name: node for name, node in self.value.items() if name not in names}, self.file, self.line)


def tree(document: Document, file: Path) -> Node:
    """The nodes of a parsed file."""
    return _tree(document.value, (), document, Node(None, file, 1))


def document_of(node: Node, file: Path) -> Document:
    """The plain values of `node`, with their lines and, where it is not `file`, their files."""
    marks = list(_marks(node, ()))
    lines = {key: mark.line for key, mark in marks}
    return Document(plain(node), lines, {key: mark.file for key, mark in marks if mark.file != file})


def plain(node: Node) -> Any:
    """The value of `node` without files and lines."""
    if isinstance(node.value, dict):
        return {name: plain(child) for name, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def applied(block: Node, under: Node) -> Node:
    """What `block`, a mapping, makes of the recipe `under`: first it removes what it says, then it is merged in.

    Raises:
        RecipeError: what it removes is not there, it names a stage twice, or changes a stage that there is none of.
    """
    if REMOVE in block.value:
        for path in _paths(block.value[REMOVE]):
            under = _without(under, str(path.value).split("."), (), path)
    over = block.less(REMOVE)
    if STAGES in over.value and STAGES in under.value:
        stages = _merged_stages(under.value[STAGES], over.value[STAGES])
        over = Node({**over.value, STAGES: stages}, over.file, over.line)
    return merged(under, over)


def merged(under: Node, over: Node) -> Node:
    """`over` laid on `under`: mappings key by key, anything else as `over` has it.

    A mapping that states another `kind` than the one below is another thing, with other keys: it takes its place whole.
    """
    below, above = under.value, over.value
    if not isinstance(below, dict) or not isinstance(above, dict) or _other_kind(below, above):
        return over
    value = {name: merged(node, above[name]) if name in above else node for name, node in below.items()}
    return Node({**value, **{name: above[name] for name in above if name not in below}}, over.file, over.line)


def _other_kind(below: Mapping[Any, Node], above: Mapping[Any, Node]) -> bool:
    return "kind" in below and "kind" in above and below["kind"].value != above["kind"].value


def _merged_stages(under: Node, over: Node) -> Node:
    """Lists of stages: those that are there change in their places, new ones come after them."""
    if not isinstance(under.value, list) or not isinstance(over.value, list):
        return over
    ids = [_id(stage) for stage in under.value]
    stages: list[Node] = list(under.value)
    lines: dict[str, int] = {}
    for stage in over.value:
        name = _id(stage)
        if name is not None:
            if name in lines:
                raise RecipeError(f"{stage.place}: the stage {name!r} stands twice, first in line {lines[name]}")
            lines[name] = stage.line
        if name is None or name not in ids:
            _require_kind(stage, name, [known for known in ids if known is not None])
            stages.append(stage)
        else:
            stages[ids.index(name)] = merged(stages[ids.index(name)], stage)
    return Node(stages, over.file, over.line)


def _require_kind(stage: Node, name: str | None, ids: list[str]) -> None:
    """A stage that the base lacks is a new one and says what it is, or its name is mistaken."""
    if name is None or "kind" in stage.value:
        return
    hint = suggestion(name, ids, f" (there are {', '.join(ids)})")
    raise RecipeError(f"{stage.place}: the base has no stage {name!r} to change, and a new one states its kind{hint}")


def _id(stage: Node) -> str | None:
    node = stage.value.get("id") if isinstance(stage.value, dict) else None
    return node.value if node is not None and isinstance(node.value, str) else None


def _paths(remove: Node) -> list[Node]:
    if isinstance(remove.value, list) and all(isinstance(path.value, str) for path in remove.value):
        return list(remove.value)
    raise RecipeError(f"{remove.place}: remove is a list of paths, as in [stages.drs, data.limit]")


def _without(node: Node, parts: list[str], before: tuple[str, ...], path: Node) -> Node:
    """`node` less what `parts` lead to; `before` has led to it."""
    name = parts[0]
    children = _named(node)
    if name not in children:
        where = ".".join(before) or "the recipe below"
        known = f"; there are {', '.join(children)}" if children else ""
        raise RecipeError(f"{path.place}: remove {path.value!r}: {where} has no {name!r}{known}")
    key = children[name]
    if len(parts) > 1:
        child = _without(node.value[key], parts[1:], (*before, name), path)
        kept = [(other, child if other == key else value) for other, value in _items(node)]
    else:
        kept = [(other, value) for other, value in _items(node) if other != key]
    whole: Any = [value for _, value in kept] if isinstance(node.value, list) else dict(kept)
    return Node(whole, node.file, node.line)


def _named(node: Node) -> dict[str, Any]:
    """The keys or positions in a node by the names that paths have for them."""
    if isinstance(node.value, list):
        return {_id(child) or str(position): position for position, child in enumerate(node.value)}
    return {str(name): name for name in node.value} if isinstance(node.value, dict) else {}


def _items(node: Node) -> list[tuple[Any, Node]]:
    return list(enumerate(node.value)) if isinstance(node.value, list) else list(node.value.items())


def _tree(value: Any, key: Key, document: Document, parent: Node) -> Node:
    # A key such as `true` is not spelt as Python prints it: its line is its parent's.
    here = Node(value, parent.file, document.lines.get(key, parent.line))
    if isinstance(value, dict):
        value = {name: _tree(item, (*key, str(name)), document, here) for name, item in value.items()}
    elif isinstance(value, list):
        value = [_tree(item, (*key, position), document, here) for position, item in enumerate(value)]
    return Node(value, here.file, here.line)


def _marks(node: Node, key: Key) -> Iterator[tuple[Key, Node]]:
    yield key, node
    if isinstance(node.value, dict):
        for name, child in node.value.items():
            yield from _marks(child, (*key, str(name)))
    elif isinstance(node.value, list):
        for position, child in enumerate(node.value):
            yield from _marks(child, (*key, position))
