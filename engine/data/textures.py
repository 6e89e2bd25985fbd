"""Textures for generated scenes: fractal noise of several grains, tinted."""

from collections.abc import Mapping

import numpy as np
from PIL import Image

Colour = tuple[int, int, int]

GRAINS: Mapping[str, tuple[int, int, int]] = {
    "cloud": (3, 2, 5),
    "earth": (10, 10, 5),
    "leaves": (28, 28, 4),
    "grass": (10, 46, 4),
    "water": (48, 6, 4),
    "fur": (14, 34, 4),
    "stone": (9, 7, 6),
}
"""Grains by name: cells down and across of the coarsest octave, and octaves."""


class Textures:
    """Square grey tiles, one a grain, that scenes cut their surfaces from."""

    def __init__(self, generator: np.random.Generator, side: int) -> None:
        """Generate the tiles.

        Args:
            generator: source of randomness.
            side: of the tiles, pixels.
        """
        self.side = side
        self._tiles = {name: _fractal_noise(generator, side, *grain) for name, grain in GRAINS.items()}
        grain = np.clip(generator.normal(128, 40, (side, side)), 0, 255).astype(np.uint8)
        self._tiles["noise"] = Image.fromarray(grain)

    def cut(self, name: str, generator: np.random.Generator, size: tuple[int, int]) -> Image.Image:
        """A grey piece from a random place; `size` is (width, height), at most the tiles' side."""
        x, y = (int(generator.integers(0, self.side - length + 1)) for length in size)
        piece = self._tiles[name].crop((x, y, x + size[0], y + size[1]))
        return piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if generator.random() < 0.5 else piece

    def tinted(
        self, name: str, generator: np.random.Generator, size: tuple[int, int], dark: Colour, light: Colour
    ) -> Image.Image:
        """A piece whose greys run from `dark` to `light`."""
        return tinted(self.cut(name, generator, size), dark, light)


def tinted(grey: Image.Image, dark: Colour, light: Colour) -> Image.Image:
    """A grey image in colour, black as `dark` and white as `light`."""
    image = Image.new("RGB", grey.size, dark)
    image.paste(light, (0, 0, *grey.size), grey)
    return image


def _fractal_noise(generator: np.random.Generator, side: int, down: int, across: int, octaves: int) -> Image.Image:
    """Smooth noise, each octave twice as fine and 0.6 times as strong as the one before, stretched to 0 … 255."""
    total = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        cells = generator.standard_normal((down << octave, across << octave), np.float32) * np.float32(0.6**octave)
        total += np.asarray(Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC))
    low, high = np.percentile(total, (1, 99))
    return Image.fromarray(np.clip((total - low) * (255 / (high - low)), 0, 255).astype(np.uint8))
