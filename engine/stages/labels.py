"""Pseudo labels: one label image an image, from maps and a threshold or from CRF masks, with ignored pixels."""

import functools
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from camshaft.engine.stages import seeds
from camshaft.engine.stages.crf import alpha_folder
from camshaft.engine.stages.per_image import Labelled, fill_mask_folders
from camshaft.engine.stages.splits import Splits
from camshaft.engine.stages.stage import Figures, Input, Product, Stage, StageContext
from camshaft.engine.stores import MapStore, MaskFolder


class Labels(Stage):
    """Pseudo labels for the segmentation network."""

    kind: Literal["labels"]
    maps: Annotated[str | None, Input(Product.MAPS)] = None
    """Maps to threshold; or"""
    crf: Annotated[str | None, Input(Product.CRF)] = None
    """CRF masks: those of one α as they are; of several, the smallest α decides on classes, the largest on background,
    and pixels that neither is sure of are ignored."""
    threshold: float | None = Field(None, gt=0, lt=1)
    """With maps, required: pixels where no class is above it are background."""
    splits: Splits = ("train",)
    """The splits to work on."""

    produces: ClassVar[Product] = Product.MASKS

    @model_validator(mode="after")
    def _one_source(self) -> "Labels":
        if (self.maps is None) == (self.crf is None):
            raise ValueError("labels are made from either maps or crf: name one of them")
        if self.crf is not None and self.threshold is not None:
            raise ValueError("threshold goes with maps: CRF masks are labels already")
        if self.maps is not None and self.threshold is None:
            raise ValueError("maps need a threshold, the background's score against them, such as 0.25")
        return self

    def needed_splits(self) -> tuple[str, ...]:
        """As asked for."""
        return self.splits

    def made_splits(self) -> tuple[str, ...]:
        """As asked for."""
        return self.splits

    def run(self, context: StageContext) -> Figures:
        """Make the label images that are missing."""
        figures: Figures = {}
        for split in self.splits:
            work = functools.partial(self._merged if self.maps is None else self._thresholded, context, split)
            images = fill_mask_folders(context, f"{self.id} {split}", split, [context.folder / split], work)
            figures[split] = {"images": images}
        return figures

    def _thresholded(self, context: StageContext, split: str, ids: Sequence[str]) -> Labelled:
        assert self.maps is not None
        assert self.threshold is not None
        store = MapStore.open(context.inputs[self.maps].folder / split)
        for image_id in ids:
            maps, present = seeds.of_image(store, image_id)
            yield image_id, [seeds.to_labels(seeds.with_background(self.threshold, maps), present)]

    def _merged(self, context: StageContext, split: str, ids: Sequence[str]) -> Labelled:
        assert self.crf is not None
        crf = context.inputs[self.crf]
        alphas = sorted(crf.record["settings"]["alphas"])
        low, high = (MaskFolder.open(crf.folder / split / alpha_folder(alpha)) for alpha in (alphas[0], alphas[-1]))
        for image_id in ids:
            if len(alphas) == 1:
                yield image_id, [low.read(image_id)]
            else:
                yield image_id, [seeds.confident_labels(low.read(image_id), high.read(image_id))]
