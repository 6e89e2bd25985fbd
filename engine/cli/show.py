"""`camshaft show` and `camshaft schema`: a recipe as it will run, and what a recipe may hold."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from camshaft.engine.pipeline.recipe import Recipe, load
from camshaft.engine.recipe.show import to_yaml


def show_command(recipe: Path, overrides: Sequence[str]) -> int:
    """Print the checked recipe with its defaults, and the order in which its stages run."""
    loaded = load(recipe, overrides)
    order = " → ".join(stage.id for stage in loaded.recipe.ordered())
    sys.stdout.write(f"{to_yaml(loaded.recipe)}# order: {order}\n")
    return 0


def schema_command() -> int:
    """Print the JSON schema of recipes."""
    sys.stdout.write(schema_text())
    return 0


def schema() -> dict[str, Any]:
    """The JSON schema of recipes."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


def schema_text() -> str:
    """The schema as the file recipes/schema.json holds it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
