"""Class activation maps of a classifier, or a refinement network's maps, over scales and flips, into a map store."""

import functools
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from camshaft.engine.data import Normalization
from camshaft.engine.models import Classifier
from camshaft.engine.recipe.settings import added_field
from camshaft.engine.runtime.precision import Arithmetic
from camshaft.engine.stages.inference import Passes, load, outputs
from camshaft.engine.stages.map_stores import fill_map_store, grid_sizes
from camshaft.engine.stages.networks import open_network
from camshaft.engine.stages.splits import Splits
from camshaft.engine.stages.stage import Figures, Input, Product, Stage, StageContext
from camshaft.engine.stores import Encoding, plan
from camshaft.kernels.alike import batches_alike
from camshaft.kernels.normalize import accumulate, normalize

Infer = Callable[[Tensor, Tensor, tuple[int, int]], Tensor]
"""From images, tags and the grid to maps, as `MapInference.infer`."""


class MapInference(Stage, Passes):
    """A stage that infers maps over scales and flips, kept for the classes that an image's tags name."""

    network: str
    """The network whose maps are wanted."""
    splits: Splits = ("train",)
    """The splits to infer."""
    square: int | None = added_field(None, ge=1)
    """Side of a square, pixels, that each image is stretched to before it is scaled (DRS's code: 320); null: scales are
    relative to the image's own size."""
    reduction: Literal["sum", "max"] = "sum"
    """How maps of all scales and flips become one: summed, then divided (OC-CSE's code); or each divided, then their
    maximum (DRS's code)."""
    grid_stride: int = Field(8, ge=1, le=32)
    """Pixels of the image to a cell of the stored maps; the papers' code stores them at the image's size."""
    encoding: Encoding = "uint10"
    """How values are stored."""

    produces: ClassVar[Product] = Product.MAPS

    def needed_splits(self) -> tuple[str, ...]:
        """A network fits any split."""
        return ()

    def made_splits(self) -> tuple[str, ...]:
        """As asked for."""
        return self.splits

    def run(self, context: StageContext) -> Figures:
        """Infer the blocks that are missing, then complete each split's store."""
        network = open_network(context, self.network, Classifier)
        infer = functools.partial(self.infer, network, arithmetic=context.arithmetic)
        return {split: self._split(context, split, network.normalization, infer) for split in self.splits}

    @abstractmethod
    def infer(
        self, network: Classifier, images: Tensor, tags: Tensor, grid: tuple[int, int], *, arithmetic: Arithmetic
    ) -> Tensor:
        """The maps of images of one size.

        Args:
            network: in inference mode.
            images: normalised, (B, 3, H, W).
            tags: float32 (B, C), 1 for the classes present.
            grid: (h, w) of the maps.
            arithmetic: what the network computes in.

        Returns:
            float32 (B, C, h, w) in [0, 1], 0 for the classes that are not present.
        """

    def accumulated(
        self,
        network: Classifier,
        images: Tensor,
        tags: Tensor,
        grid: tuple[int, int],
        *,
        arithmetic: Arithmetic,
        divide: bool,
    ) -> Tensor:
        """Maps of all scales and flips, rectified, as one: their sum or maximum, not yet divided.

        Args:
            network, images, tags, grid, arithmetic: as `infer` takes them.
            divide: divide each pass's maps by their own maximum first.

        Returns:
            float32 (B, C, h, w), 0 or above.
        """
        total: Tensor = torch.zeros((len(images), tags.shape[1], *grid), device=images.device)
        for maps, mirrored in outputs(network, images, self, arithmetic, square=self.square):
            accumulate(
                total,
                maps,
                tags=tags,
                flipped=mirrored,
                reduction=self.reduction,
                divide=divide,
                order="relu_upsample_divide" if divide else "upsample_relu_divide",
                align_corners=self.align_corners,
            )
        return total

    def _split(self, context: StageContext, split: str, normalization: Normalization, infer: Infer) -> Figures:
        sizes, tags = context.sizes(split), context.tags(split)
        layout = plan(
            context.ids(split),
            [np.flatnonzero(row).tolist() for row in tags],
            grid_sizes(sizes, self.grid_stride, self.align_corners),
            sizes,
            classes=context.data.classes,
            encoding=self.encoding,
        )

        def of_size(indices: Sequence[int]) -> list[np.ndarray]:
            images = load(context.data, [layout.ids[index] for index in indices], normalization, context.device)
            present = torch.from_numpy(tags[indices]).to(context.device, torch.float32)
            values = infer(images, present, layout.shape(indices[0])[1:]).cpu().numpy()
            return [values[position][np.flatnonzero(tags[index])] for position, index in enumerate(indices)]

        def maps(images: range) -> list[np.ndarray]:
            found = {index: np.zeros(layout.shape(index), np.float32) for index in images if not tags[index].any()}
            tagged = [index for index in images if index not in found]
            shapes = [tuple(sizes[index].tolist()) for index in tagged]
            for group in batches_alike(shapes, self.batch_size):
                indices = [tagged[member] for member in group]
                found |= dict(zip(indices, of_size(indices), strict=True))
            return [found[index] for index in images]

        return fill_map_store(context, split, layout, {"align_corners": self.align_corners}, maps)


class InferMaps(MapInference):
    """Multi-scale, flipped inference of class activation maps, or of a refinement network's maps."""

    kind: Literal["maps"]
    network: Annotated[str, Input(Product.CLASSIFIER, Product.REFINER)]
    """The classifier or refinement network whose maps are wanted."""
    divide: bool = added_field(True)
    """Divide each map by its maximum (DRS eq. 1, OC-CSE eq. 2). false, with reduction: max, takes values as they are,
    bounded by 0 and 1 (in DRS's code by 0 alone): a refinement network gives maps, no scores to be normalised."""

    @model_validator(mode="after")
    def _undivided_maps_are_not_summed(self) -> "InferMaps":
        if not self.divide and self.reduction == "sum":
            raise ValueError("divide: false needs reduction: max; a sum over scales and flips must be divided")
        return self

    def infer(
        self, network: Classifier, images: Tensor, tags: Tensor, grid: tuple[int, int], *, arithmetic: Arithmetic
    ) -> Tensor:
        """See `MapInference.infer`."""
        by_maximum = self.reduction == "max"
        divide = by_maximum and self.divide
        total = self.accumulated(network, images, tags, grid, arithmetic=arithmetic, divide=divide)
        return total.clamp_(max=1) if by_maximum else normalize(total, tags=tags)
