"""The base of all settings: frozen, no unknown keys. Each component's settings stand beside the component."""

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

Part = TypeVar("Part", bound="Settings")

Place = tuple[str | int, ...]
"""The way to a value within a model's input: names and positions."""


class Settings(BaseModel):
    """Typed settings of one component, as a recipe states them. Numbers are finite, and neither text nor true or false.

    A whole number may stand for a float, and a float without a fraction for an integer.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _numbers_are_numbers(cls, values: Any) -> Any:
        """Refuse what pydantic would turn into a number: `flip: true` is not 1.0, and `epochs: "5"` not 5."""
        if not isinstance(values, Mapping):
            return values
        wrong = [
            found
            for name, field in cls.model_fields.items()
            if name in values
            for found in _mistaken(field.annotation, values[name], (name,))
        ]
        if wrong:
            # The whole input stands in for the value, which the message names as YAML writes it.
            raise ValidationError.from_exception_data(
                cls.__name__,
                [InitErrorDetails(type=_problem(message), loc=place, input=values) for place, message in wrong],
            )
        return values

    def changed(self, *names: str) -> list[str]:
        """Those of these fields that are not at their defaults, which say nothing: a recipe written out in full states
        them too."""
        return [name for name in names if getattr(self, name) != type(self).model_fields[name].default]

    def part(self, kind: type[Part]) -> Part:
        """The settings of one base class out of these, where a stage is made of several."""
        return kind.model_validate({name: getattr(self, name) for name in kind.model_fields})

    def fingerprinted_settings(self) -> dict[str, Any]:
        """The settings that change the result, as JSON values: not those that change only how it is reached, and added
        ones only where they are not at their defaults."""
        values = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            marks = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            value = getattr(self, name)
            if marks.get("runtime") or (marks.get("added") and value == field.default):
                del values[name]
            elif isinstance(value, Settings):
                values[name] = value.fingerprinted_settings()
        return values


def runtime_field(default: Any, **constraints: Any) -> Any:
    """A field that changes how a stage runs but not what it computes: it takes no part in the stage's fingerprint."""
    return Field(default, json_schema_extra={"runtime": True}, **constraints)


def added_field(default: Any, **constraints: Any) -> Any:
    """A field that came when there were results without it: at its default it takes no part in fingerprints, and those
    results stay valid."""
    return Field(default, json_schema_extra={"added": True}, **constraints)


def _mistaken(kind: Any, value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    """Where `value`, of a field annotated with `kind`, holds truth values or numeric text that should be numbers."""
    kinds = _alternatives(kind)
    if isinstance(value, bool | str):
        if _would_become_a_number(kinds, value):
            shown = repr(value) if isinstance(value, str) else str(value).lower()
            yield place, f"is a number, not {shown}"
    elif isinstance(value, list | tuple):
        sequences = [get_args(one) for one in kinds if get_origin(one) in (tuple, list)]
        if len(sequences) == 1:
            (items,) = sequences
            repeated = len(items) == 1 or items[1:] == (...,)
            for position, item in enumerate(value if repeated else value[: len(items)]):
                yield from _mistaken(items[0 if repeated else position], item, (*place, position))
    elif isinstance(value, Mapping):
        mappings = [get_args(one) for one in kinds if get_origin(one) in (dict, Mapping)]
        if len(mappings) == 1:
            for name, item in value.items():
                yield from _mistaken(mappings[0][1], item, (*place, str(name)))


def _problem(message: str) -> PydanticCustomError:
    return PydanticCustomError("not_a_number", "{message}", {"message": message})


def _alternatives(kind: Any) -> list[Any]:
    """The members of a union, however it is nested and annotated."""
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [member for one in get_args(kind) for member in _alternatives(one)]
    return [kind]


def _would_become_a_number(kinds: list[Any], value: bool | str) -> bool:
    literals = {(type(one), one) for kind in kinds if get_origin(kind) is Literal for one in get_args(kind)}
    if not (int in kinds or float in kinds) or type(value) in kinds or (type(value), value) in literals:
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True
