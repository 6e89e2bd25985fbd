"""The base of all settings: frozen, no unknown keys. Each component's settings stand beside the component."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Part = TypeVar("Part", bound="Settings")


class Settings(BaseModel):
    """Typed settings of one component, as a recipe states them."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)

    def part(self, kind: type[Part]) -> Part:
        """The settings of one base class out of these, where a stage is made of several."""
        return kind.model_validate({name: getattr(self, name) for name in kind.model_fields})


def runtime_field(default: Any, **constraints: Any) -> Any:
    """A field that changes how a stage runs but not what it computes: it takes no part in the stage's fingerprint."""
    return Field(default, json_schema_extra={"runtime": True}, **constraints)
