"""Generated scenes: a data set without files, with exact masks, for trials of the whole program on any machine."""

import threading
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from camshaft.engine.data.creatures import CLASSES
from camshaft.engine.data.dataset import Checked, DataSet, digest
from camshaft.engine.data.layout import Scene, draw_scene
from camshaft.engine.data.painting import Painted, paint
from camshaft.engine.data.textures import Textures
from camshaft.engine.errors import DataError
from camshaft.engine.recipe.settings import Settings, runtime_field
from camshaft.engine.runtime.seeds import derive, numpy_generator

REVISION = 1
"""Goes up when the same settings give other scenes."""


class ScenesSettings(Settings):
    """Animals in landscapes, generated: exact masks, saliency, and nothing to download."""

    kind: Literal["scenes"]
    """Generated scenes."""
    train: int = Field(240, ge=1)
    """Images of the split train."""
    val: int = Field(60, ge=0)
    """Images of the split val."""
    height: int = Field(192, ge=64, le=1024)
    """Typical height of an image, pixels; each one's differs by up to 15 %, and a quarter stand upright."""
    width: int = Field(256, ge=64, le=1024)
    """Typical width of an image, pixels."""
    seed: int = 0
    """Of everything that is drawn."""
    cache_mb: int = runtime_field(256, ge=0)
    """Memory for scenes that were painted, MB; beyond it they are painted anew each time."""
    on_corrupt: Literal["fail", "skip"] = "fail"
    """As for other data sets; a generated image is never corrupt."""


class Scenes(DataSet):
    """Generated scenes; each is a pure function of the settings' seed and its id."""

    def __init__(self, settings: ScenesSettings) -> None:
        """Lay the scenes out; they are painted when asked for."""
        super().__init__("scenes", CLASSES)
        self._settings = settings
        counts = {"train": settings.train, "val": settings.val}
        self._layouts = {
            split: {image_id: self._layout(image_id) for image_id in (f"{split}-{k:06d}" for k in range(count))}
            for split, count in counts.items()
            if count
        }
        self._textures = Textures(
            numpy_generator("scenes", settings.seed, "textures"), round(1.2 * max(settings.height, settings.width)) + 64
        )
        self._cache: dict[str, Painted] = {}
        self._cached_bytes = 0
        self._lock = threading.Lock()

    def ids(self, split: str) -> tuple[str, ...]:
        """See `DataSet.ids`."""
        return tuple(self._scenes(split))

    def tags(self, split: str) -> NDArray[np.uint8]:
        """See `DataSet.tags`."""
        scenes = self._scenes(split).values()
        tags = np.zeros((len(scenes), len(CLASSES)), np.uint8)
        for row, scene in zip(tags, scenes, strict=True):
            row[[creature.label - 1 for creature in scene.creatures]] = 1
        return tags

    def size(self, image_id: str) -> tuple[int, int]:
        """See `DataSet.size`."""
        scene = self._scene(image_id)
        return scene.height, scene.width

    def image(self, image_id: str, *, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:  # noqa: ARG002
        """See `DataSet.image`; read-only."""
        return self._painted(image_id).image

    def mask(self, image_id: str) -> NDArray[np.uint8] | None:
        """See `DataSet.mask`; read-only."""
        return self._painted(image_id).mask

    def saliency(self, image_id: str) -> NDArray[np.uint8] | None:
        """See `DataSet.saliency`; read-only."""
        return self._painted(image_id).saliency

    def has_masks(self, split: str) -> bool:
        """See `DataSet.has_masks`."""
        return bool(self._scenes(split))

    def has_saliency(self, split: str) -> bool:
        """See `DataSet.has_saliency`."""
        return bool(self._scenes(split))

    def fingerprint(self, split: str, *, masks: bool = False, saliency: bool = False) -> str:  # noqa: ARG002
        """See `DataSet.fingerprint`: masks and saliency maps follow from the same few numbers as the images."""
        settings = self._settings
        parts = (REVISION, settings.seed, settings.height, settings.width, split, len(self._scenes(split)))
        return digest(map(str, parts))

    def check(self, image_id: str, *, masks: bool, saliency: bool) -> Checked:  # noqa: ARG002 - every scene has both
        """See `DataSet.check`: there are no files that could be damaged."""
        return Checked(self.size(image_id), None, ())

    def _layout(self, image_id: str) -> Scene:
        settings = self._settings
        return draw_scene(numpy_generator("scenes", settings.seed, image_id), settings.height, settings.width)

    def _scenes(self, split: str) -> dict[str, Scene]:
        if split not in self._layouts:
            raise DataError(f"scenes: no split {split!r}; there is {', '.join(self._layouts)}")
        return self._layouts[split]

    def _scene(self, image_id: str) -> Scene:
        for scenes in self._layouts.values():
            if image_id in scenes:
                return scenes[image_id]
        raise DataError(f"scenes: there is no image {image_id!r}")

    def _painted(self, image_id: str) -> Painted:
        painted = self._cache.get(image_id)
        if painted is None:
            painted = paint(self._scene(image_id), self._textures, derive("scenes", self._settings.seed, image_id))
            arrays = (painted.image, painted.mask, painted.saliency)
            for array in arrays:
                array.setflags(write=False)
            with self._lock:
                self._cached_bytes += sum(array.nbytes for array in arrays)
                if self._cached_bytes <= self._settings.cache_mb * 1_000_000:
                    self._cache[image_id] = painted
        return painted
