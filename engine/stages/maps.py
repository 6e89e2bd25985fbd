"""Class activation maps of a classifier, or a refinement network's maps, over scales and flips, into a map store."""

import functools
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from camshaft.engine.models import Classifier
from camshaft.engine.recipe.settings import added_field
from camshaft.engine.stages.inference import Passes, batches_of_one_size, load, outputs
from camshaft.engine.stages.map_stores import fill_map_store, grid_sizes
from camshaft.engine.stages.networks import open_network
from camshaft.engine.stages.splits import Splits
from camshaft.engine.stages.stage import Figures, Input, Product, Stage, StageContext
from camshaft.engine.stores import Encoding, Layout, plan
from camshaft.kernels.normalize import accumulate, normalize


class InferMaps(Stage, Passes):
    """Multi-scale, flipped inference of class activation maps, kept for the classes that an image's tags name."""

    kind: Literal["maps"]
    network: Annotated[str, Input(Product.CLASSIFIER, Product.REFINER)]
    """The classifier or refinement network whose maps are wanted."""
    splits: Splits = ("train",)
    """The splits to infer."""
    square: int | None = added_field(None, ge=1)
    """Side of a square, pixels, that each image is stretched to before it is scaled (DRS's code: 320); null: scales are
    relative to the image's own size."""
    reduction: Literal["sum", "max"] = "sum"
    """How maps of all scales and flips become one: summed, then divided (OC-CSE's code); or each divided, then their
    maximum (DRS's code)."""
    divide: bool = added_field(True)
    """Divide each map by its maximum (DRS eq. 1, OC-CSE eq. 2). false, with reduction: max, takes values as they are,
    bounded by 0 and 1: a refinement network gives maps, no scores to be normalised."""
    grid_stride: int = Field(8, ge=1, le=32)
    """Pixels of the image to a cell of the stored maps."""
    encoding: Encoding = "uint10"
    """How values are stored."""

    produces: ClassVar[Product] = Product.MAPS

    @model_validator(mode="after")
    def _undivided_maps_are_not_summed(self) -> "InferMaps":
        if not self.divide and self.reduction == "sum":
            raise ValueError("divide: false needs reduction: max; a sum over scales and flips must be divided")
        return self

    def needed_splits(self) -> tuple[str, ...]:
        """A network fits any split."""
        return ()

    def made_splits(self) -> tuple[str, ...]:
        """As asked for."""
        return self.splits

    def run(self, context: StageContext) -> Figures:
        """Infer the blocks that are missing, then complete each split's store."""
        inference = _Inference(self, context)
        return {split: self._split(context, split, inference) for split in self.splits}

    def _split(self, context: StageContext, split: str, inference: "_Inference") -> Figures:
        layout = self._layout(context, split)
        work = functools.partial(inference.maps, split, layout)
        return fill_map_store(context, split, layout, {"align_corners": self.align_corners}, work)

    def _layout(self, context: StageContext, split: str) -> Layout:
        sizes = context.sizes(split)
        tags = context.tags(split)
        return plan(
            context.ids(split),
            [np.flatnonzero(row).tolist() for row in tags],
            grid_sizes(sizes, self.grid_stride, self.align_corners),
            sizes,
            classes=context.data.classes,
            encoding=self.encoding,
        )


class _Inference:
    """The network, ready, and the way from images to the maps of their classes."""

    def __init__(self, stage: InferMaps, context: StageContext) -> None:
        self.stage = stage
        self.context = context
        self.network = open_network(context, stage.network, Classifier)

    def maps(self, split: str, layout: Layout, images: range) -> list[np.ndarray]:
        """The maps of consecutive images of a split: float32 (K, h, w) each, of the classes present."""
        tags = self.context.tags(split)[images.start : images.stop]
        sizes = [tuple(row) for row in self.context.sizes(split)[images.start : images.stop].tolist()]
        found: list[np.ndarray | None] = [None] * len(images)
        tagged = [position for position in range(len(images)) if tags[position].any()]
        for position in set(range(len(images))) - set(tagged):
            found[position] = np.zeros(layout.shape(images[position]), np.float32)
        for group in batches_of_one_size([sizes[position] for position in tagged], self.stage.batch_size):
            positions = [tagged[member] for member in group]
            indices = [images[position] for position in positions]
            maps = self._infer([layout.ids[index] for index in indices], layout.shape(indices[0])[1:], tags[positions])
            for position, values in zip(positions, maps, strict=True):
                found[position] = values
        return [values for values in found if values is not None]

    def _infer(self, ids: Sequence[str], grid: tuple[int, int], tags: np.ndarray) -> list[np.ndarray]:
        """Images of one size: their maps, of the classes that each one's tags name."""
        device = self.context.device
        images = load(self.context.data, ids, self.network.normalization, device)
        present = torch.from_numpy(tags).to(device, torch.float32)
        total: Tensor = torch.zeros((len(ids), tags.shape[1], *grid), device=device)
        by_maximum = self.stage.reduction == "max"
        divide = by_maximum and self.stage.divide
        for maps, mirrored in outputs(
            self.network, images, self.stage, self.context.arithmetic, square=self.stage.square
        ):
            accumulate(
                total,
                maps,
                tags=present,
                flipped=mirrored,
                reduction=self.stage.reduction,
                divide=divide,
                order="relu_upsample_divide" if divide else "upsample_relu_divide",
                align_corners=self.stage.align_corners,
            )
        result = total.clamp_(max=1) if by_maximum else normalize(total, tags=present)
        values = result.cpu().numpy()
        return [values[position][np.flatnonzero(row)] for position, row in enumerate(tags)]
