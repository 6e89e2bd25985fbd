"""A recipe out of several files and blocks: its bases, its own keys, one of its presets, and what the command changes.

    base: other.yaml          the recipe that this one changes; it may have a base itself
    preset: official          which of the presets is taken
    presets:                  blocks of changes by name
      official: {stages: [{id: drs, crop: 320}]}
    remove: [stages.crf]      what is taken out of the base before the rest is merged in

A file is its base, then its own keys, then its block of the preset; so a file's own keys outdo its base's preset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camshaft.engine.errors import RecipeError
from camshaft.engine.recipe import overrides as dotted
from camshaft.engine.recipe.merge import Node, applied, document_of, plain, tree
from camshaft.engine.recipe.paths import expanded
from camshaft.engine.recipe.yaml import Document, parse, parse_scalar

BASE, PRESET, PRESETS = "base", "preset", "presets"


@dataclass(frozen=True)
class Chain:
    """A recipe's files, the one that has no base first, the one that was asked for last."""

    files: tuple[Node, ...]

    @property
    def path(self) -> Path:
        """The file that was asked for."""
        return self.files[-1].file

    @property
    def presets(self) -> tuple[str, ...]:
        """Names of all presets, each once."""
        return tuple(dict.fromkeys(name for file in self.files for name in _presets(file)))


@dataclass(frozen=True)
class Composed:
    """A whole recipe, not checked yet, and the preset that is in it."""

    document: Document
    preset: str | None


def read_chain(path: Path, what: str = "a recipe is a mapping with the keys name, data and stages") -> Chain:
    """Read a recipe's file and those of its bases.

    Args:
        path: the file.
        what: for the message about a file that is no mapping.

    Raises:
        RecipeError: a file can't be read or is no mapping, or bases form a cycle.
    """
    files = [_read(path, "", what)]
    seen = [path.resolve()]
    while BASE in files[0].value:
        base = files[0].value[BASE]
        if not isinstance(base.value, str):
            raise RecipeError(f"{base.place}: base is the path of another recipe, relative to this file")
        try:
            target = (base.file.parent / expanded(base.value)).resolve()
        except ValueError as error:
            raise RecipeError(f"{base.place}: base: {error}") from None
        if target in seen:
            cycle = " → ".join(str(_shown(file)) for file in [*seen[seen.index(target) :], target])
            raise RecipeError(f"{base.place}: {cycle} is a cycle of bases")
        seen.append(target)
        files.insert(0, _read(_shown(target), f"{base.place}: base: ", what))
    return Chain(tuple(files))


def compose(chain: Chain, overrides: Sequence[str], *, block: Node | None = None, own: Sequence[str] = ()) -> Composed:
    """Merge a recipe's files, their blocks of one preset, and the command line's overrides.

    Args:
        chain: the files.
        overrides: `path=value` each; `preset=NAME` takes another preset, `preset=null` none.
        block: changes that come after all files, such as a variant's; it may state a preset.
        own: further keys of the file asked for that are no part of the recipe.

    Raises:
        RecipeError: there is no such preset, or anything can't be merged.
    """
    last = chain.files[-1]
    for name in (BASE, PRESETS):
        if block is not None and name in block.value:
            raise RecipeError(f"{block.value[name].place}: {name} belongs to the file, not to a variant")
    layers = [*chain.files[:-1], last.less(*own), *([block] if block is not None else [])]
    preset = _preset(chain, layers, overrides)
    whole = Node({}, last.file, last.line)
    for layer in layers:
        whole = applied(layer.less(BASE, PRESET, PRESETS), whole)
        if preset is not None and preset in (blocks := _presets(layer)):
            whole = applied(blocks[preset], whole)
    document = document_of(whole, chain.path)
    for override in overrides:
        if not _names_preset(override):
            _override(document, override)
    return Composed(document, preset)


def _override(document: Document, override: str) -> None:
    """Change a value, which then stands in no file."""
    changed = dotted.apply(document.value, override)
    for key in [key for key in document.lines if key[: len(changed)] == changed]:
        del document.lines[key]
        document.files.pop(key, None)


def _preset(chain: Chain, layers: Sequence[Node], overrides: Sequence[str]) -> str | None:
    """The preset that the command line asks for, else the last file or block that states one."""
    place, name, known = "", None, chain.presets
    for layer in layers:
        if PRESET in layer.value:
            place, name = layer.value[PRESET].place, plain(layer.value[PRESET])
    for override in overrides:
        if _names_preset(override):
            place, name = f"override {override!r}", parse_scalar(override.partition("=")[2], f"override {override!r}")
    if name is not None and name not in known:
        there_are = f"there are {', '.join(known)}" if known else "the recipe has no presets"
        raise RecipeError(f"{place}: there is no preset {name!r}; {there_are}")
    return name


def _names_preset(override: str) -> bool:
    return override.partition("=")[0].strip() == PRESET


def _presets(file: Node) -> dict[Any, Node]:
    """A file's blocks by preset."""
    presets = file.value.get(PRESETS)
    if presets is None:
        return {}
    if not isinstance(presets.value, dict):
        raise RecipeError(f"{presets.place}: presets is a mapping of names to changes")
    for name, block in presets.value.items():
        if not isinstance(name, str) or not isinstance(block.value, dict):
            raise RecipeError(f"{block.place}: the preset {name!r} must be a name with a mapping of changes")
    return dict(presets.value)


def _read(path: Path, prefix: str, what: str) -> Node:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{prefix}{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{prefix}{path}: is not a UTF-8 text file") from None
    document = parse(text, str(path))
    if not isinstance(document.value, dict):
        raise RecipeError(f"{path}: {what}")
    return tree(document, path)


def _shown(path: Path) -> Path:
    """A path as messages have it: relative to where the command was given, if it lies below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
