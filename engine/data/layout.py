"""What stands where in a generated scene; drawn without painting, so that tags cost next to nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from camshaft.engine.data.creatures import BUILD_OF, CLASSES, EXTENT, HEAD, Box

PLACES = ("meadow", "steppe", "snow", "shore", "wood")
OBSTACLES = ("bush", "rock", "trunk")

_COUNTS = (0, 1, 2, 3)
_COUNT_ODDS = (0.04, 0.3, 0.38, 0.28)
_TRIES = 40
_SMALLEST = 0.26
"""Height of an animal in parts of the image's shorter side."""


@dataclass(frozen=True)
class Creature:
    """One animal. Lengths in pixels, y down."""

    label: int
    """1 … C."""
    x: float
    """Of its middle."""
    feet: float
    """y of its feet; what stands lower is nearer and covers what stands higher."""
    height: float
    """From its feet to the top of its plain head."""
    faces_left: bool

    @property
    def box(self) -> Box:
        """(x0, y0, x1, y1) of all that it may cover."""
        return self._in_image(EXTENT[BUILD_OF[CLASSES[self.label - 1]]])

    @property
    def head(self) -> Box:
        """(x0, y0, x1, y1) of the part that tells its class."""
        return self._in_image(HEAD[BUILD_OF[CLASSES[self.label - 1]]])

    def _in_image(self, box: Box) -> Box:
        left, bottom, right, top = box
        if self.faces_left:
            left, right = -right, -left
        return (
            self.x + left * self.height,
            self.feet - top * self.height,
            self.x + right * self.height,
            self.feet - bottom * self.height,
        )


@dataclass(frozen=True)
class Obstacle:
    """Something that belongs to the background, before or behind animals."""

    kind: str
    box: Box
    """(x0, y0, x1, y1) of all that it may cover."""

    @property
    def feet(self) -> float:
        """y of its foot."""
        return self.box[3]


@dataclass(frozen=True)
class Scene:
    """All of an image but its paint."""

    height: int
    width: int
    place: str
    horizon: int
    """y where the ground begins."""
    creatures: Sequence[Creature]
    obstacles: Sequence[Obstacle]


def draw_scene(generator: np.random.Generator, height: int, width: int) -> Scene:
    """A random scene of about this size: every animal's head is in the image, and nothing covers it."""
    height, width = (round(length * generator.uniform(0.85, 1.15)) for length in (height, width))
    if generator.random() < 0.25:
        height, width = width, height
    place = str(generator.choice(PLACES))
    horizon = round(height * generator.uniform(0.15, 0.45))
    creatures: list[Creature] = []
    count = int(generator.choice(_COUNTS, p=_COUNT_ODDS))
    for _ in range(count):
        for attempt in range(_TRIES):
            scale = (1.3 - 0.18 * count) * (1 - 0.6 * attempt / _TRIES)
            creature = _creature(generator, (height, width), horizon, scale)
            if _inside(creature.head, height, width) and not any(_in_the_way(creature, other) for other in creatures):
                creatures.append(creature)
                break
    obstacles = []
    for _ in range(int(generator.integers(2, 8))):
        obstacle = _obstacle(generator, height, width, horizon)
        if not any(obstacle.feet > one.feet and _meet(obstacle.box, one.head) for one in creatures):
            obstacles.append(obstacle)
    return Scene(height, width, place, horizon, creatures, obstacles)


def _creature(generator: np.random.Generator, size: tuple[int, int], horizon: int, scale: float) -> Creature:
    height, width = size
    near = generator.uniform(0.1, 1.0)
    return Creature(
        label=int(generator.integers(1, len(CLASSES) + 1)),
        x=generator.uniform(-0.1, 1.1) * width,
        feet=horizon + near * (height * 1.02 - horizon),
        height=max(_SMALLEST, (0.42 + 0.5 * near) * generator.uniform(0.8, 1.15) * scale) * min(height, width),
        faces_left=bool(generator.random() < 0.5),
    )


def _obstacle(generator: np.random.Generator, height: int, width: int, horizon: int) -> Obstacle:
    kind = str(generator.choice(OBSTACLES))
    near = generator.uniform(0.05, 1.1)
    foot = horizon + near * (height - horizon)
    size = (0.1 + 0.25 * near) * generator.uniform(0.7, 1.3) * min(height, width)
    across, up = {"bush": (1.3, 0.8), "rock": (1.1, 0.65), "trunk": (0.3, 3.0)}[kind]
    middle = generator.uniform(0, 1) * width
    return Obstacle(kind, (middle - across * size / 2, foot - up * size, middle + across * size / 2, foot))


def _in_the_way(one: Creature, other: Creature) -> bool:
    """True if the nearer of two animals may cover the head of the other, or most of its body."""
    near, far = (one, other) if one.feet > other.feet else (other, one)
    return _meet(near.box, far.head) or _meet(near.box, _core(far.box))


def _core(box: Box) -> Box:
    """The middle of a box, half as wide and high."""
    x0, y0, x1, y1 = box
    return (0.75 * x0 + 0.25 * x1, 0.75 * y0 + 0.25 * y1, 0.25 * x0 + 0.75 * x1, 0.25 * y0 + 0.75 * y1)


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _inside(box: Box, height: int, width: int) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height
