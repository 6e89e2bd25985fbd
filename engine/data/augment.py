"""The one description of augmentation, and the random numbers that it draws for a sample.

Settings say what may happen; `draw` decides what does happen to one sample, and nothing else draws a random number.
A loader carries a `Drawn` out: `camshaft.engine.data.transform` with Pillow and NumPy.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from camshaft.engine.recipe.settings import Settings

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Adjustment = Literal["brightness", "contrast", "saturation", "hue"]
LARGEST_SIDE = 8192
"""Pixels: a larger sample is a slip of the keyboard, and found out when memory ends."""


class Resize(Settings):
    """How an image's size is drawn: exactly one of long_side, short_side, scale and square."""

    long_side: tuple[int, int] | None = None
    """Smallest and largest length of the longer side, pixels; drawn uniformly among the integers, aspect ratio kept."""
    short_side: tuple[int, int] | None = None
    """The same for the shorter side."""
    scale: tuple[float, float] | None = None
    """Smallest and largest factor of both sides, aspect ratio kept."""
    step: float | None = Field(None, gt=0)
    """With scale: draw only factors that lie whole steps above the smallest; null: any."""
    square: int | None = Field(None, ge=1, le=LARGEST_SIDE)
    """Side of a square that the image is stretched to, pixels."""
    interpolation: Interpolation = "bicubic"
    """Of the image; antialiased when it shrinks. Label masks are always resized by nearest neighbour."""

    @field_validator("long_side", "short_side", "scale")
    @classmethod
    def _in_order(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1]:
            raise ValueError(f"must be [smallest, largest] with 0 < smallest ≤ largest, not {list(value)}")
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> "Resize":
        given = [name for name in ("long_side", "short_side", "scale", "square") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of long_side, short_side, scale and square, not {given or 'none'}")
        if self.step is not None and self.scale is None:
            raise ValueError("step goes with scale alone")
        return self


class ColourJitter(Settings):
    """Changes of colour, in a random order: strengths as torchvision's ColorJitter has them."""

    brightness: float = Field(0.0, ge=0)
    """b: the image is multiplied by a factor of [max(0, 1 − b), 1 + b]."""
    contrast: float = Field(0.0, ge=0)
    """The same for its distance from its mean grey."""
    saturation: float = Field(0.0, ge=0)
    """The same for each pixel's distance from its grey."""
    hue: float = Field(0.0, ge=0, le=0.5)
    """h: the hue is turned by [−h, h] of a full turn."""


class Augmentation(Settings):
    """Resize, flip, change colours, normalise, crop: in this order. The default does nothing but normalise."""

    resize: Resize | None = None
    """null: the image keeps its size."""
    flip: float = Field(0.0, ge=0, le=1)
    """Probability of mirroring left and right."""
    jitter: ColourJitter | None = None
    """null: colours stay."""
    crop: int | None = Field(None, ge=1, le=LARGEST_SIDE)
    """Side of the square that is cut out at a random place; a smaller image is put at a random place of it, and the
    rest is padded with 0 after normalisation (255 in label masks). null: no crop."""

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """(H, W) of every sample, or None if it depends on the image."""
        if self.crop is not None:
            return self.crop, self.crop
        if self.resize is not None and self.resize.square is not None:
            return self.resize.square, self.resize.square
        return None


@dataclass(frozen=True)
class Drawn:
    """All that is random about one sample, in pixels and factors."""

    resized: tuple[int, int]
    """(H, W) after resizing."""
    interpolation: Interpolation
    """Of the image."""
    flip: bool
    """Mirror left and right, after resizing."""
    adjustments: tuple[tuple[Adjustment, float], ...]
    """Changes of colour in the order they are made: factor, or part of a full turn for the hue."""
    window: tuple[int, int, int, int]
    """(top, left, H, W) of the sample in the resized, flipped image; what lies outside of the image is padding."""


def draw(settings: Augmentation, generator: np.random.Generator, size: tuple[int, int]) -> Drawn:
    """Draw one sample's augmentation.

    Args:
        settings: what may happen.
        generator: source of all its random numbers.
        size: (H, W) of the image.
    """
    resized = _resized(settings.resize, generator, size)
    flip = bool(generator.random() < settings.flip)
    adjustments = _adjustments(settings.jitter, generator)
    window = (0, 0, *resized)
    if settings.crop is not None:
        top, left = (_offset(generator, length, settings.crop) for length in resized)
        window = (top, left, settings.crop, settings.crop)
    interpolation = settings.resize.interpolation if settings.resize is not None else "bicubic"
    return Drawn(resized, interpolation, flip, adjustments, window)


def _resized(resize: Resize | None, generator: np.random.Generator, size: tuple[int, int]) -> tuple[int, int]:
    if resize is None:
        return size
    if resize.square is not None:
        return resize.square, resize.square
    if resize.scale is not None:
        low, high = resize.scale
        if resize.step is None:
            factor = float(generator.uniform(low, high))
        else:
            factor = low + resize.step * int(generator.integers(0, int((high - low) / resize.step + 1e-6) + 1))
    elif resize.long_side is not None:
        factor = int(generator.integers(resize.long_side[0], resize.long_side[1] + 1)) / max(size)
    else:
        assert resize.short_side is not None  # the settings hold exactly one
        factor = int(generator.integers(resize.short_side[0], resize.short_side[1] + 1)) / min(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _adjustments(jitter: ColourJitter | None, generator: np.random.Generator) -> tuple[tuple[Adjustment, float], ...]:
    if jitter is None:
        return ()
    strengths: tuple[tuple[Adjustment, float], ...] = (
        ("brightness", jitter.brightness),
        ("contrast", jitter.contrast),
        ("saturation", jitter.saturation),
        ("hue", jitter.hue),
    )
    drawn: list[tuple[Adjustment, float]] = []
    for number in generator.permutation(len(strengths)):
        kind, strength = strengths[number]
        if strength > 0:
            low, high = (-strength, strength) if kind == "hue" else (max(0.0, 1 - strength), 1 + strength)
            drawn.append((kind, float(generator.uniform(low, high))))
    return tuple(drawn)


def _offset(generator: np.random.Generator, length: int, crop: int) -> int:
    """Where a crop begins in an image of this length; below 0 where the image is the shorter of the two."""
    low, high = min(0, length - crop), max(0, length - crop)
    return int(generator.integers(low, high + 1))
