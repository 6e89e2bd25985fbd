"""The base of all settings: frozen, no unknown keys. Each component's settings stand beside the component."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Typed settings of one component, as a recipe states them."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


def runtime_field(default: Any, **constraints: Any) -> Any:
    """A field that changes how a stage runs but not what it computes: it takes no part in the stage's fingerprint."""
    return Field(default, json_schema_extra={"runtime": True}, **constraints)
