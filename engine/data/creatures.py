"""The animals of generated scenes: what classes look like.

Two builds, a walker and a bird, are shared by three classes each, with the same coats; only a small part at the head
tells the classes of a build apart. A classifier needs that part alone, so its class activation maps miss the body, as
they do on photos.

Coordinates: the animal looks right, its feet stand at y = 0, x = 0 is its middle, y points up and 1 is its height to
the top of its plain head.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from camshaft.engine.data.textures import Colour

Build = Literal["walker", "bird"]
Point = tuple[float, float]
Outline = Sequence[Point]
Box = tuple[float, float, float, float]

BUILD_OF: Mapping[str, Build] = {
    "horned": "walker",
    "masked": "walker",
    "banded": "walker",
    "crested": "bird",
    "billed": "bird",
    "tufted": "bird",
}
CLASSES = tuple(BUILD_OF)

EXTENT: Mapping[Build, Box] = {"walker": (-0.75, -0.04, 0.85, 1.3), "bird": (-0.75, -0.04, 0.95, 1.2)}
"""Left, bottom, right, top of all that an animal of a build may cover."""

HEAD: Mapping[Build, Box] = {"walker": (0.22, 0.62, 0.82, 1.25), "bird": (0.12, 0.62, 0.9, 1.15)}
"""The same for the part that tells its class."""

COATS: Mapping[Build, Sequence[tuple[Colour, Colour]]] = {
    "walker": (
        ((66, 42, 26), (158, 112, 72)),
        ((92, 70, 48), (206, 174, 130)),
        ((46, 42, 42), (122, 114, 108)),
        ((112, 82, 60), (232, 214, 188)),
        ((84, 44, 26), (188, 106, 58)),
    ),
    "bird": (
        ((58, 62, 72), (150, 158, 170)),
        ((82, 66, 48), (182, 156, 116)),
        ((110, 104, 98), (236, 232, 224)),
        ((44, 46, 50), (112, 116, 120)),
        ((96, 74, 62), (200, 148, 128)),
    ),
}
"""Darkest and lightest tone of a coat."""


@dataclass(frozen=True)
class Part:
    """A patch on top of the coat."""

    outline: Outline
    colour: Colour | None
    """None: a darker tone of the coat."""


@dataclass(frozen=True)
class Figure:
    """An animal's outlines: `body` is covered by the coat, `parts` lie on it or stick out of it."""

    body: Sequence[Outline]
    parts: Sequence[Part]


def figure(name: str, generator: np.random.Generator) -> Figure:
    """An animal of the class `name` in a random stance."""
    return _walker(name, generator) if BUILD_OF[name] == "walker" else _bird(name, generator)


def _walker(name: str, generator: np.random.Generator) -> Figure:
    nod = float(generator.uniform(-0.05, 0.05))
    body = [
        _ellipse(0.0, 0.55, 0.42, 0.21, 0.0),
        _ellipse(0.27, 0.57, 0.19, 0.2, 0.0),
        _ellipse(-0.27, 0.56, 0.2, 0.19, 0.0),
        [(0.12, 0.7), (0.42, 0.5), (0.6, 0.82 + nod), (0.42, 0.95 + nod)],
        _ellipse(0.52, 0.88 + nod, 0.15, 0.115, -0.3),
        _ellipse(0.65, 0.82 + nod, 0.1, 0.07, -0.3),
        _stroke([(-0.42, 0.66), (-0.55, 0.6), (-0.6 + float(generator.uniform(-0.08, 0.08)), 0.36)], 0.05, 0.03),
        [(0.42, 0.95 + nod), (0.34, 1.06 + nod), (0.47, 0.99 + nod)],
    ]
    for hip in (-0.36, -0.24, 0.2, 0.33):
        step = float(generator.uniform(-0.1, 0.1))
        body.append(_stroke([(hip, 0.55), (hip + step * 0.3, 0.28), (hip + step, 0.0)], 0.075, 0.035))
    return Figure(body, _walker_marks(name, nod, generator))


def _walker_marks(name: str, nod: float, generator: np.random.Generator) -> list[Part]:
    eye = [Part(_ellipse(0.545, 0.915 + nod, 0.024, 0.024, 0.0), (14, 12, 12))]
    nose = [Part(_ellipse(0.725, 0.8 + nod, 0.028, 0.03, 0.0), (30, 24, 24))]
    if name == "horned":
        ivory = (238, 224, 186)
        reach = float(generator.uniform(0.9, 1.1))
        horns = [
            _stroke([(x, 0.96 + nod), (x - 0.1 * reach, 1.1 + nod), (x - 0.02, 1.24 + nod)], 0.042, 0.008)
            for x in (0.44, 0.56)
        ]
        return [*(Part(horn, ivory) for horn in horns), *eye, *nose]
    if name == "masked":
        white, black = (246, 244, 238), (22, 20, 22)
        return [
            Part(_ellipse(0.55, 0.87 + nod, 0.185, 0.12, -0.35), white),
            Part(_ellipse(0.54, 0.92 + nod, 0.1, 0.048, -0.3), black),
            Part(_ellipse(0.545, 0.925 + nod, 0.018, 0.018, 0.0), (236, 190, 60)),
            *nose,
        ]
    rings = []
    for number, along in enumerate(np.linspace(0.1, 0.9, 5)):
        x, y = 0.3 + 0.2 * along, 0.62 + (0.26 + nod) * along
        half = 0.2 - 0.06 * along
        band = [(x - half, y + 0.62 * half), (x + half, y - 0.72 * half)]
        colour = (232, 186, 40) if number % 2 else (20, 20, 26)
        rings.append(Part(_stroke(band, 0.03, 0.03), colour))
    return [*rings, *eye, *nose]


def _bird(name: str, generator: np.random.Generator) -> Figure:
    nod = float(generator.uniform(-0.05, 0.05))
    raised = float(generator.uniform(-0.06, 0.1))
    body = [
        _ellipse(0.0, 0.48, 0.36, 0.25, 0.25),
        _ellipse(0.14, 0.52, 0.22, 0.22, 0.0),
        [(0.1, 0.66), (0.3, 0.5), (0.42, 0.8 + nod), (0.22, 0.86 + nod)],
        _ellipse(0.32, 0.83 + nod, 0.145, 0.14, 0.0),
        [(-0.22, 0.5), (-0.7, 0.46 + raised), (-0.68, 0.58 + raised), (-0.2, 0.58)],
    ]
    legs = [
        Part(_stroke([(x, 0.32), (x + 0.02, 0.14), (x, 0.0), (x + 0.1, -0.02)], 0.024, 0.014), (96, 74, 48))
        for x in (-0.03, 0.1)
    ]
    wing = Part(_ellipse(-0.08, 0.5, 0.27, 0.13, 0.2), None)
    return Figure(body, [*legs, wing, *_bird_marks(name, nod, generator)])


def _bird_marks(name: str, nod: float, generator: np.random.Generator) -> list[Part]:
    eye = [Part(_ellipse(0.37, 0.86 + nod, 0.024, 0.024, 0.0), (12, 12, 14))]
    beak = [Part([(0.44, 0.88 + nod), (0.6, 0.82 + nod), (0.44, 0.78 + nod)], (62, 56, 50))]
    if name == "crested":
        red = (206, 32, 36)
        lobes = [
            Part(_ellipse(0.2 + 0.07 * k, 0.975 + nod + 0.025 * (k % 2), 0.055, 0.085, 0.35 - 0.2 * k), red)
            for k in range(4)
        ]
        return [*lobes, *beak, Part(_ellipse(0.45, 0.74 + nod, 0.04, 0.065, 0.0), red), *eye]
    if name == "billed":
        drop = float(generator.uniform(0.08, 0.16))
        bill = [
            (0.4, 0.92 + nod),
            (0.62, 0.93 + nod),
            (0.84, 0.88 + nod - drop),
            (0.86, 0.8 + nod - drop),
            (0.64, 0.76 + nod),
            (0.4, 0.74 + nod),
        ]
        tip = [
            (0.76, 0.9 + nod - 0.6 * drop),
            (0.84, 0.88 + nod - drop),
            (0.86, 0.8 + nod - drop),
            (0.76, 0.785 + nod - 0.4 * drop),
        ]
        return [Part(bill, (242, 140, 24)), Part(tip, (30, 26, 26)), *eye]
    blue = (34, 84, 190)
    cap = Part(_ellipse(0.31, 0.88 + nod, 0.15, 0.1, 0.0), blue)
    lean = float(generator.uniform(-0.04, 0.04))
    plumes = [
        Part(
            _stroke([(x, 0.93 + nod), (x - 0.07 + lean, 1.03 + nod), (x - 0.16 + lean, 1.1 + nod)], 0.035, 0.018), blue
        )
        for x in (0.24, 0.33, 0.41)
    ]
    return [cap, *plumes, *beak, Part(_ellipse(0.34, 0.78 + nod, 0.07, 0.05, 0.0), (240, 240, 236)), *eye]


def _ellipse(x: float, y: float, across: float, up: float, tilt: float) -> Outline:
    """An ellipse about (x, y) with these half axes, turned by `tilt` radians."""
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    along, aside = across * np.cos(angle), up * np.sin(angle)
    points = np.stack(
        (x + along * np.cos(tilt) - aside * np.sin(tilt), y + along * np.sin(tilt) + aside * np.cos(tilt)), 1
    )
    return [(float(px), float(py)) for px, py in points]


def _stroke(path: Sequence[Point], start: float, end: float) -> Outline:
    """The outline of a smooth stroke through `path` whose half width goes from `start` to `end`."""
    points = _smooth(np.array(path, np.float64))
    direction = np.gradient(points, axis=0)
    normal = np.stack((-direction[:, 1], direction[:, 0]), 1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    width = np.linspace(start, end, len(points))[:, None]
    sides = np.concatenate((points + normal * width, (points - normal * width)[::-1]))
    return [(float(px), float(py)) for px, py in sides]


def _smooth(points: NDArray[np.float64], rounds: int = 2) -> NDArray[np.float64]:
    """Corners cut by Chaikin's rule, ends kept."""
    for _ in range(rounds if len(points) > 2 else 0):
        ahead, behind = points[1:], points[:-1]
        cut = np.stack((0.75 * behind + 0.25 * ahead, 0.25 * behind + 0.75 * ahead), 1).reshape(-1, 2)
        points = np.concatenate((points[:1], cut, points[-1:]))
    return points
