"""The splits that a per-image stage works on, as its settings name them."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

Split = Literal["train", "val"]


def _without_repetition(splits: tuple[Split, ...]) -> tuple[Split, ...]:
    if len(set(splits)) < len(splits):
        raise ValueError("a split is named twice")
    return splits


Splits = Annotated[tuple[Split, ...], Field(min_length=1), AfterValidator(_without_repetition)]
