"""`camshaft show` and `camshaft schema`: a recipe as it will run, and what a recipe may hold."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from camshaft.engine.pipeline.recipe import LoadedRecipe, load
from camshaft.engine.pipeline.schema import schema
from camshaft.engine.recipe.show import to_yaml


def show_command(recipe: Path, overrides: Sequence[str]) -> int:
    """Print the checked recipe with its defaults, and the order in which its stages run."""
    loaded = load(recipe, overrides)
    sys.stdout.write(to_yaml(loaded.recipe) + "".join(f"# {line}\n" for line in _remarks(loaded)))
    return 0


def _remarks(loaded: LoadedRecipe) -> list[str]:
    """What the recipe's values don't say: the order of its stages and, of several files, where they come from."""
    lines = [f"order: {' → '.join(stage.id for stage in loaded.recipe.ordered())}"]
    if len(loaded.files) > 1:
        lines += [f"files: {' ← '.join(loaded.files)}", f"relative paths start at {loaded.base}"]
    if loaded.preset is not None:
        lines.append(f"preset: {loaded.preset}")
    return lines


def schema_command() -> int:
    """Print the JSON schema of recipes."""
    sys.stdout.write(schema_text())
    return 0


def schema_text() -> str:
    """The schema as the file recipes/schema.json holds it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
