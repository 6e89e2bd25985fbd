"""Numbers in settings: what pydantic alone would take for one."""

import math
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError

from camshaft.engine.recipe.settings import Settings


class Inner(Settings):
    kind: Literal["inner"] = "inner"
    weight: float = 1.0


class Outer(Settings):
    epochs: int = Field(2, ge=1)
    rate: float | None = None
    batch: int | Literal["auto"] = "auto"
    level: int | Literal["1"] = 0
    scales: tuple[float, ...] = ()
    pair: tuple[int, str] = (1, "a")
    values: dict[str, int] | None = None
    share: Annotated[float, Field(ge=0)] | None = None
    on: bool = False
    name: str = ""
    either: bool | float = 0.0
    inner: Inner = Inner()
    inners: tuple[Inner, ...] = ()


def findings(**values: Any) -> dict[tuple[int | str, ...], str]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(values)
    return {error["loc"]: error["msg"] for error in caught.value.errors()}


@pytest.mark.parametrize(
    ("values", "place", "message"),
    [
        ({"epochs": True}, ("epochs",), "is a number, not true"),
        ({"epochs": "5"}, ("epochs",), "is a number, not '5'"),
        ({"rate": False}, ("rate",), "is a number, not false"),
        ({"rate": "1e-3"}, ("rate",), "is a number, not '1e-3'"),
        ({"rate": " nan "}, ("rate",), "is a number, not ' nan '"),
        ({"batch": "16"}, ("batch",), "is a number, not '16'"),
        ({"batch": True}, ("batch",), "is a number, not true"),
        ({"level": True}, ("level",), "is a number, not true"),
        ({"scales": [0.5, True]}, ("scales", 1), "is a number, not true"),
        ({"pair": ["3", "3"]}, ("pair", 0), "is a number, not '3'"),
        ({"values": {"cat": 1, "dog": True}}, ("values", "dog"), "is a number, not true"),
        ({"share": True}, ("share",), "is a number, not true"),
        ({"inner": {"weight": True}}, ("inner", "weight"), "is a number, not true"),
        ({"inners": [{}, {"weight": "2"}]}, ("inners", 1, "weight"), "is a number, not '2'"),
    ],
)
def test_what_is_no_number_is_refused_where_it_stands(
    values: dict[str, Any], place: tuple[int | str, ...], message: str
) -> None:
    assert findings(**values) == {place: message}


def test_all_of_them_are_found_at_once() -> None:
    assert findings(epochs=True, scales=["1", 2, True]).keys() == {("epochs",), ("scales", 0), ("scales", 2)}


def test_what_is_a_number_stays_one() -> None:
    read = Outer.model_validate(
        {
            "epochs": 3.0, "rate": 1, "level": "1", "scales": [1, 0.5], "pair": [3, "3"], "values": {"1": 4},
            "on": True, "name": "5", "either": True, "inner": {"kind": "inner", "weight": 2}, "inners": [{}],
        }
    )  # fmt: skip
    assert (read.epochs, read.rate, read.level, read.either, read.name) == (3, 1.0, "1", True, "5")
    assert type(read.epochs) is int
    assert type(read.rate) is float
    assert read.scales == (1.0, 0.5)
    assert read.inner.weight == 2.0
    assert Outer.model_validate(read.model_dump(mode="json")) == read


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_numbers_are_finite(value: float) -> None:
    assert findings(rate=value).keys() == {("rate",)}
    assert findings(scales=[1.0, value]).keys() == {("scales", 1)}
    assert findings(inner={"weight": value}).keys() == {("inner", "weight")}


def test_text_that_is_no_number_is_pydantic_s_to_refuse() -> None:
    assert set(findings(epochs="many")) == {("epochs",)}
    assert all(place[0] == "batch" for place in findings(batch="atuo"))
