"""The JSON schema of recipe files, for editors: whole recipes, recipes over a base, and sweeps."""

from collections.abc import Mapping
from typing import Any

from camshaft.engine.pipeline.recipe import VARIANTS, Recipe
from camshaft.engine.pipeline.variants import SweepSettings, VariantSettings

CHANGES = "ChangesTo"
"""Prefix of definitions in which nothing is required: what is not there is as the base has it."""

BASE = {"type": "string", "description": "The recipe that this one changes, relative to this file."}
REMOVE = {
    "type": "array",
    "items": {"type": "string"},
    "description": "What is taken out of the base before the rest is merged in, as in [stages.drs, data.limit].",
}
PRESET = {"type": ["string", "null"], "description": "Which of the presets is taken; null: none."}


def schema() -> dict[str, Any]:
    """The JSON schema of files that `camshaft run` and `camshaft sweep` take."""
    recipe = Recipe.model_json_schema()
    definitions: dict[str, Any] = recipe.pop("$defs")
    changes = {f"{CHANGES}{name}": _without_requirements(part) for name, part in definitions.items()}
    block = _without_requirements(recipe)["properties"]
    presets = {
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/Changes"},
        "description": "Changes by name; `preset`, or the command line's preset=NAME, takes one of them.",
    }
    of_a_file = {"preset": PRESET, "presets": presets}
    over_a_base = {"base": BASE, **block, "remove": REMOVE, **of_a_file}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {
            **definitions,
            **changes,
            "Changes": _mapping({**block, "remove": REMOVE}, [], "Changes to a recipe."),
            "Whole": {**recipe, "properties": {**recipe["properties"], **of_a_file}},
            "OverABase": _mapping(over_a_base, ["base"], "A recipe that changes another one."),
            "Sweep": _sweep(over_a_base, block),
        },
        "title": "Recipe",
        "type": "object",
        "if": {"required": [VARIANTS]},
        "then": {"$ref": "#/$defs/Sweep"},
        "else": {
            "if": {"required": ["base"]},
            "then": {"$ref": "#/$defs/OverABase"},
            "else": {"$ref": "#/$defs/Whole"},
        },
    }


def _sweep(over_a_base: Mapping[str, Any], block: Mapping[str, Any]) -> dict[str, Any]:
    own = SweepSettings.model_json_schema()["properties"]
    variant = VariantSettings.model_json_schema()["properties"]
    variants = {
        "type": "array",
        "minItems": 1,
        "description": own[VARIANTS]["description"],
        "items": _mapping({**block, "remove": REMOVE, "preset": PRESET, **variant}, ["name"], "A variant's changes."),
    }
    properties = {**over_a_base, **own, VARIANTS: variants}
    return _mapping(properties, ["name", VARIANTS], "Variants of one recipe, run and compared by one command.")


def _mapping(properties: Mapping[str, Any], required: list[str], description: str) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "description": description,
        "properties": dict(properties),
        **({"required": required} if required else {}),
    }


def _without_requirements(part: Any) -> Any:
    """A part of the schema in which nothing is required; of several kinds, any that fits will do."""
    if isinstance(part, list):
        return [_without_requirements(item) for item in part]
    if not isinstance(part, dict):
        return part
    found: dict[str, Any] = {}
    for name, value in part.items():
        if name == "$ref":
            found[name] = value.replace("#/$defs/", f"#/$defs/{CHANGES}")
        elif name not in ("required", "discriminator"):
            found["anyOf" if name == "oneOf" else name] = _without_requirements(value)
    return found
