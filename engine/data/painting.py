"""Painting of generated scenes with Pillow: image, exact mask and saliency from a layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from camshaft.engine.data.creatures import BUILD_OF, CLASSES, COATS, EXTENT, Outline, figure
from camshaft.engine.data.layout import Creature, Obstacle, Scene
from camshaft.engine.data.textures import Colour, Textures, tinted
from camshaft.engine.runtime.seeds import numpy_generator

_GROUNDS: Mapping[str, tuple[str, Colour, Colour]] = {
    "meadow": ("grass", (44, 74, 26), (146, 166, 78)),
    "steppe": ("earth", (122, 92, 56), (214, 186, 134)),
    "snow": ("cloud", (176, 186, 202), (246, 248, 252)),
    "shore": ("water", (44, 82, 104), (146, 182, 192)),
    "wood": ("leaves", (46, 36, 22), (130, 104, 62)),
}
_SKIES: Mapping[str, tuple[Colour, Colour]] = {
    "meadow": ((86, 136, 196), (196, 216, 234)),
    "steppe": ((110, 150, 190), (236, 222, 196)),
    "snow": ((150, 168, 190), (226, 232, 238)),
    "shore": ((94, 132, 176), (222, 226, 226)),
    "wood": ((30, 44, 26), (92, 116, 66)),
}
_OBSTACLES: Mapping[str, tuple[str, Colour, Colour]] = {
    "bush": ("leaves", (20, 38, 14), (104, 134, 56)),
    "rock": ("stone", (62, 56, 52), (176, 166, 154)),
    "trunk": ("fur", (40, 28, 20), (134, 106, 80)),
}
_OVERSAMPLING = 2
_SMOOTH = Image.Resampling.BILINEAR
_COLUMN = Image.linear_gradient("L").crop((0, 0, 1, 256))
_LIGHT = _COLUMN.point([255 - level * 110 // 255 for level in range(256)])
_SHADE = Image.radial_gradient("L").reduce(4).point([max(0, 120 - level) for level in range(256)])
_CLOUDS = [max(0, level - 110) for level in range(256)]
_UNEVEN = [150 + level * 105 // 255 for level in range(256)]
_HALF = [255 if level >= 128 else 0 for level in range(256)]


@dataclass(frozen=True)
class Painted:
    """A finished scene."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    mask: NDArray[np.uint8]
    """(H, W): 0 background, 1 … C."""
    saliency: NDArray[np.uint8]
    """(H, W): what a saliency network might say, 0 … 255."""


@dataclass
class _Canvas:
    """A scene while it is being painted."""

    image: Image.Image
    mask: Image.Image
    saliency: Image.Image


def paint(scene: Scene, textures: Textures, seed: int) -> Painted:
    """Paint a scene, far things first.

    Args:
        scene: the layout.
        textures: tiles at least as large as the scene.
        seed: of all looks.
    """
    generator = numpy_generator(seed, "paint")
    size = (scene.width, scene.height)
    canvas = _Canvas(_background(scene, textures, generator), Image.new("L", size), Image.new("L", size))
    things: list[Creature | Obstacle] = [*scene.creatures, *scene.obstacles]
    for thing in sorted(things, key=lambda thing: thing.feet):
        if isinstance(thing, Creature):
            _paint_creature(canvas, thing, textures, generator)
        else:
            _paint_obstacle(canvas, thing, textures, generator)
    return Painted(
        np.asarray(_photographed(canvas.image, textures, generator)),
        np.asarray(canvas.mask).copy(),
        np.asarray(_seen(canvas.saliency, textures, generator)),
    )


def _background(scene: Scene, textures: Textures, generator: np.random.Generator) -> Image.Image:
    grain, dark, light = _GROUNDS[scene.place]
    image = Image.new("RGB", (scene.width, scene.height))
    sky_size = (scene.width, scene.horizon)
    top, bottom = _SKIES[scene.place]
    sky = tinted(_COLUMN.resize(sky_size, _SMOOTH), top, bottom)
    if scene.place == "wood":
        sky = Image.blend(sky, textures.tinted("leaves", generator, sky_size, (16, 26, 12), (140, 160, 96)), 0.75)
    else:
        clouds = textures.cut("cloud", generator, sky_size).point(_CLOUDS)
        sky.paste((248, 248, 248), (0, 0), clouds)
    image.paste(sky, (0, 0))
    # Grain grows towards the viewer: the far strip is a larger piece squeezed together.
    far = (scene.height - scene.horizon) // 3
    near_size = (scene.width, scene.height - scene.horizon)
    ground = textures.tinted(grain, generator, near_size, _varied(dark, generator), _varied(light, generator))
    strip = ground.resize((scene.width, max(1, far)), _SMOOTH)
    fade = _COLUMN.transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize(strip.size, _SMOOTH)
    ground.paste(strip, (0, 0), fade)
    image.paste(ground, (0, scene.horizon))
    return image


def _paint_obstacle(canvas: _Canvas, thing: Obstacle, textures: Textures, generator: np.random.Generator) -> None:
    grain, dark, light = _OBSTACLES[thing.kind]
    x0, y0, x1, y1 = (round(value) for value in thing.box)
    size = (min(max(4, x1 - x0), textures.side), min(max(4, y1 - y0), textures.side))
    y0 = y1 - size[1]
    alpha = _filled(_obstacle_outlines(thing.kind, generator), size)
    surface = textures.tinted(grain, generator, size, _varied(dark, generator), _varied(light, generator))
    _shadow(canvas, (x0, y1, size[0]))
    canvas.image.paste(_lit(surface), (x0, y0), alpha)
    hard = alpha.point(_HALF)
    canvas.mask.paste(0, (x0, y0), hard)
    canvas.saliency.paste(int(generator.choice((0, 0, 40, 110))), (x0, y0), hard)


def _obstacle_outlines(kind: str, generator: np.random.Generator) -> list[Outline]:
    """In a box of width and height 1, y down."""
    if kind == "trunk":
        lean = generator.uniform(-0.2, 0.2)
        return [[(0.25 + lean, 0.0), (0.75 + lean, 0.0), (0.85, 0.9), (1.0, 1.0), (0.0, 1.0), (0.15, 0.9)]]
    angle = np.linspace(0, 2 * np.pi, 15, endpoint=False)
    if kind == "rock":
        radius = generator.uniform(0.38, 0.5, 15)
        return [[(0.5 + r * np.cos(a), 0.55 + r * np.sin(a)) for r, a in zip(radius, angle, strict=True)]]
    blobs = []
    for x in np.linspace(0.2, 0.8, 6):
        y, size = generator.uniform(0.3, 0.7), generator.uniform(0.16, 0.28)
        blobs.append([(x + size * np.cos(a), y + size * np.sin(a)) for a in angle])
    return [*blobs, [(0.1, 0.6), (0.9, 0.6), (0.85, 1.0), (0.15, 1.0)]]


def _paint_creature(canvas: _Canvas, animal: Creature, textures: Textures, generator: np.random.Generator) -> None:
    name = CLASSES[animal.label - 1]
    build = BUILD_OF[name]
    left, bottom, right, top = EXTENT[build]
    x0, y0, x1, y1 = animal.box
    size = (max(8, round(x1 - x0)), max(8, round(y1 - y0)))
    corner = (round(x0), round(y0))

    def local(outline: Outline) -> Outline:
        """Into a box of width and height 1, y down."""
        points = [((x - left) / (right - left), (top - y) / (top - bottom)) for x, y in outline]
        return [(1 - x, y) for x, y in points] if animal.faces_left else points

    drawn = figure(name, generator)
    dark, light = COATS[build][int(generator.integers(len(COATS[build])))]
    dark, light = _varied(dark, generator), _varied(light, generator)
    alpha = _filled([local(outline) for outline in drawn.body], size)
    surface = textures.tinted("fur", generator, size, dark, light)
    for part in drawn.parts:
        tones = (_scaled(dark, 0.6), _scaled(light, 0.6)) if part.colour is None else _tones(part.colour)
        patch, place = _cut_out(local(part.outline), size)
        surface.paste(textures.tinted("stone", generator, patch.size, *tones), place, patch)
        covered = (*place, place[0] + patch.width, place[1] + patch.height)
        alpha.paste(ImageChops.lighter(alpha.crop(covered), patch), place)
    _shadow(canvas, (round(x0 + 0.15 * size[0]), round(animal.feet), round(0.7 * size[0])))
    canvas.image.paste(_lit(surface), corner, alpha)
    hard = alpha.point(_HALF)
    canvas.mask.paste(animal.label, corner, hard)
    canvas.saliency.paste(int(generator.integers(150, 256)), corner, hard)


def _filled(outlines: Sequence[Outline], size: tuple[int, int]) -> Image.Image:
    """Coverage, 0 … 255, of outlines given in a box of width and height 1."""
    width, height = size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING
    drawing = Image.new("L", (width, height))
    pen = ImageDraw.Draw(drawing)
    for outline in outlines:
        pen.polygon([(x * width, y * height) for x, y in outline], fill=255)
    return drawing.reduce(_OVERSAMPLING)


def _cut_out(outline: Outline, size: tuple[int, int]) -> tuple[Image.Image, tuple[int, int]]:
    """Coverage of one outline in no more than its own box, and that box's corner in a picture of `size`."""
    points = np.clip(np.array(outline), 0, 1) * size
    x0, y0 = (int(value) for value in np.floor(points.min(0)))
    width, height = (int(value) for value in np.maximum(np.ceil(points.max(0)) - (x0, y0), 1))
    inside = [((x - x0) / width, (y - y0) / height) for x, y in points.tolist()]
    return _filled([inside], (width, height)), (x0, y0)


def _lit(surface: Image.Image) -> Image.Image:
    """Lighter above than below."""
    light = _LIGHT.resize(surface.size, _SMOOTH)
    return ImageChops.multiply(surface, Image.merge("RGB", (light, light, light)))


def _shadow(canvas: _Canvas, place: tuple[int, int, int]) -> None:
    """A soft shadow on the ground: place is (left, y of the middle, width)."""
    left, middle, width = place
    height = max(4, width // 5)
    blob = _SHADE.resize((max(4, width), height), _SMOOTH)
    canvas.image.paste((16, 18, 16), (left, middle - height // 2), blob)


def _photographed(image: Image.Image, textures: Textures, generator: np.random.Generator) -> Image.Image:
    """Exposure and grain."""
    gain = generator.uniform(0.8, 1.15)
    image = image.point([min(255, int(level * gain)) for level in range(256)] * 3)
    grain = textures.cut("noise", generator, image.size)
    return Image.blend(image, Image.merge("RGB", (grain, grain, grain)), 0.07)


def _seen(saliency: Image.Image, textures: Textures, generator: np.random.Generator) -> Image.Image:
    """Soft edges and uneven strength."""
    small = saliency.reduce(4)
    soft = small.filter(ImageFilter.GaussianBlur(0.012 * max(small.size))).resize(saliency.size, _SMOOTH)
    uneven = textures.cut("cloud", generator, saliency.size).point(_UNEVEN)
    return ImageChops.multiply(soft, uneven)


def _varied(colour: Colour, generator: np.random.Generator) -> Colour:
    """A neighbouring tone."""
    red, green, blue = generator.uniform(0.95, 1.05, 3) * generator.uniform(0.85, 1.15) * colour
    return min(255, int(red)), min(255, int(green)), min(255, int(blue))


def _tones(colour: Colour) -> tuple[Colour, Colour]:
    return _scaled(colour, 0.7), _scaled(colour, 1.15)


def _scaled(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, int(value * factor)) for value in colour)
    return red, green, blue
