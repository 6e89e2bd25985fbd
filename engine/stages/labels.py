"""Pseudo labels: one label image an image, with ignored pixels: from maps and a threshold, with background cues from
saliency maps where asked for; or from CRF masks."""

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from camshaft.engine.data import DataSet
from camshaft.engine.errors import DataError
from camshaft.engine.recipe.settings import added_field
from camshaft.engine.stages import seeds
from camshaft.engine.stages.crf import confident_masks
from camshaft.engine.stages.cues import BackgroundCues, cue_labels
from camshaft.engine.stages.map_stores import open_maps
from camshaft.engine.stages.per_image import Labelled, fill_mask_folders
from camshaft.engine.stages.splits import Splits
from camshaft.engine.stages.stage import Figures, Input, Product, Stage, StageContext, Supervision


class Labels(Stage):
    """Pseudo labels for the segmentation network."""

    kind: Literal["labels"]
    maps: Annotated[str | None, Input(Product.MAPS)] = None
    """Maps to threshold; or"""
    crf: Annotated[str | None, Input(Product.CRF)] = None
    """CRF masks: those of one α as they are; of several, the smallest α decides on classes, the largest on background,
    and pixels that neither is sure of are ignored."""
    threshold: float | None = Field(None, gt=0, lt=1)
    """With maps, required: pixels where no class is above it are background, unless saliency says so; DRS's α."""
    saliency: BackgroundCues | None = added_field(None)
    """With maps: take background from the data's saliency maps, which are extra supervision, and ignore what is neither
    above the threshold nor background; null: no saliency map is read."""
    splits: Splits = ("train",)
    """The splits to work on."""

    produces: ClassVar[Product] = Product.MASKS

    @model_validator(mode="after")
    def _one_source(self) -> "Labels":
        if (self.maps is None) == (self.crf is None):
            raise ValueError("labels are made from either maps or crf: name one of them")
        if self.crf is not None and self.threshold is not None:
            raise ValueError("threshold goes with maps: CRF masks are labels already")
        if self.crf is not None and self.saliency is not None:
            raise ValueError("saliency goes with maps and a threshold: CRF masks have their background already")
        if self.maps is not None and self.threshold is None:
            raise ValueError("maps need a threshold, the background's score against them, such as 0.25")
        return self

    def needed_splits(self) -> tuple[str, ...]:
        """As asked for."""
        return self.splits

    def made_splits(self) -> tuple[str, ...]:
        """As asked for."""
        return self.splits

    def saliency_splits(self) -> tuple[str, ...]:
        """All of them, where background cues are asked for."""
        return () if self.saliency is None else self.splits

    def supervision(self) -> frozenset[Supervision]:
        """Saliency maps, where they are read."""
        return frozenset() if self.saliency is None else frozenset({Supervision.SALIENCY})

    def run(self, context: StageContext) -> Figures:
        """Make the label images that are missing."""
        if self.maps is not None:
            source = "the maps alone" if self.saliency is None else f"saliency maps below {self.saliency.beta:g}"
            context.note(f"background comes from {source}")
        figures: Figures = {}
        for split in self.splits:
            if self.crf is not None:
                label = confident_masks(context, self.crf, split)
            else:
                label = self._thresholded(context, split)

            def work(ids: Sequence[str], label: Callable[[str], np.ndarray] = label) -> Labelled:
                return ((image_id, [label(image_id)]) for image_id in ids)

            images = fill_mask_folders(context, f"{self.id} {split}", split, [context.folder / split], work)
            figures[split] = {"images": images}
        return figures

    def _thresholded(self, context: StageContext, split: str) -> Callable[[str], np.ndarray]:
        """From an id to its labels by maps and threshold, uint8 (H, W)."""
        assert self.maps is not None
        assert self.threshold is not None
        threshold, saliency = self.threshold, self.saliency
        store = open_maps(context, self.maps, split)

        def of(image_id: str) -> np.ndarray:
            maps, present = seeds.of_image(store, image_id)
            if saliency is None:
                return seeds.to_labels(seeds.with_background(threshold, maps), present)
            return cue_labels(maps, present, saliency_of(context.data, image_id), threshold, saliency)

        return of


def saliency_of(data: DataSet, image_id: str) -> np.ndarray:
    """The saliency map of an image, uint8 (H, W), 0 … 255.

    Raises:
        DataError: it has none, or one of another size or kind.
    """
    saliency = data.saliency(image_id)
    if saliency is None:
        raise DataError(f"{data.name}: image {image_id!r} has no saliency map to take background from")
    return saliency
