"""Paths in recipes: each starts at the folder of the file in which it is written."""

import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_after_validator_function

from camshaft.engine.recipe.settings import Settings
from camshaft.engine.recipe.yaml import Document, Key

Model = TypeVar("Model", bound=Settings)


class RecipePath:
    """Marks a field that is a path: `root: Annotated[Path, RecipePath()]`; one that no machine can have is refused."""

    def __init__(self, *words: str) -> None:
        """Take any value for a path but `words`, which mean something else."""
        self.words = words

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check what the field's own type takes."""
        return no_info_after_validator_function(_checked, handler(source))


def expanded(path: str) -> Path:
    """`path` with the folder of `~` or `~NAME` in place.

    Raises:
        ValueError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{path.partition('/')[0]} is no user's folder on this machine") from None


def _checked(value: Any) -> Any:
    if value is not None:
        expanded(str(value))
    return value


def moved(settings: Model, document: Document, origin: Path, start: Path) -> Model:
    """`settings` with every path that is written in a file of another folder as it is seen from `start`.

    Args:
        settings: what `document` says.
        document: the recipe; where it has no file for a value, that is `origin`.
        origin: the recipe's own file.
        start: the folder from which paths start afterwards.
    """
    changed: Model = _moved(settings, (), document, origin, start.resolve())
    return changed


def _moved(value: Any, key: Key, document: Document, origin: Path, start: Path) -> Any:
    if isinstance(value, tuple):
        return tuple(_moved(item, (*key, number), document, origin, start) for number, item in enumerate(value))
    if not isinstance(value, Settings):
        return value
    changes: dict[str, Any] = {}
    for name, info in type(value).model_fields.items():
        here, item = (*key, name), getattr(value, name)
        mark = next((mark for mark in info.metadata if isinstance(mark, RecipePath)), None)
        if mark is None:
            changed = _moved(item, here, document, origin, start)
        elif name in value.model_fields_set and item is not None and str(item) not in mark.words:
            folder = document.files.get(here, origin).resolve().parent
            changed = type(item)(_seen_from(str(item), folder, start))
        else:
            continue
        if changed != item:
            changes[name] = changed
    return value.model_copy(update=changes) if changes else value


def _seen_from(path: str, folder: Path, start: Path) -> str:
    whole = expanded(path)
    if folder == start or whole.is_absolute():
        return path
    return os.path.relpath(folder / whole, start)
