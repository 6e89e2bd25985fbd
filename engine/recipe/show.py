"""A recipe as YAML again, with every default in place."""

from typing import Any

import yaml

from camshaft.engine.recipe.settings import Settings

FIRST = ("id", "kind", "name")


def to_yaml(settings: Settings) -> str:
    """All values of `settings`, in the order of its fields."""
    values = _named_first(settings.model_dump(mode="json"))
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)


def _named_first(value: Any) -> Any:
    """The same value, each mapping with what names it in front."""
    if isinstance(value, list):
        return [_named_first(item) for item in value]
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
        return {name: _named_first(value[name]) for name in names}
    return value
