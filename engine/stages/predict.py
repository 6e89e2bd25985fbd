"""Masks predicted by a segmentation network: no tags are used, as for images that nobody has labelled."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from pydantic import Field, model_validator
from torch import Tensor

from camshaft.engine.models import Segmenter
from camshaft.engine.recipe.settings import added_field
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.stages.crf import CrfParameters
from camshaft.engine.stages.inference import Passes, Scale, load, outputs
from camshaft.engine.stages.networks import open_network
from camshaft.engine.stages.per_image import Labelled, fill_mask_folders
from camshaft.engine.stages.splits import Splits
from camshaft.engine.stages.stage import Figures, Input, Product, Stage, StageContext
from camshaft.kernels.alike import batches_alike
from camshaft.kernels.crf import crf


class Predict(Stage, Passes):
    """Multi-scale, flipped prediction, with a dense CRF where asked for."""

    kind: Literal["predict"]
    network: Annotated[str, Input(Product.SEGMENTER)]
    """The network that predicts."""
    splits: Splits = ("val",)
    """The splits to predict."""
    scales: tuple[Scale, ...] = Field((1.0,), min_length=1)
    """Sizes of the image, relative to its own."""
    reduction: Literal["mean", "max"] = added_field("mean")
    """How all scales and flips become one: the mean of their probabilities; or the maximum of their logits at the
    resolution of the largest scale's, as in DeepLab-v2."""
    crf: CrfParameters | None = None
    """Parameters of a CRF on the probabilities; null for none."""

    produces: ClassVar[Product] = Product.MASKS

    @model_validator(mode="after")
    def _maximum_has_several(self) -> "Predict":
        if self.reduction == "max" and len(self.scales) == 1 and not self.flip:
            raise ValueError("reduction: max goes with several scales or flip: true; of one pass there is no maximum")
        return self

    def check(self, classes: Sequence[str], base: Path, ranks: Ranks) -> None:
        """Look for the CRF's implementation that was asked for."""
        del classes, base, ranks
        if self.crf is not None:
            self.crf.check()

    def needed_splits(self) -> tuple[str, ...]:
        """A network fits any split."""
        return ()

    def made_splits(self) -> tuple[str, ...]:
        """As asked for."""
        return self.splits

    def run(self, context: StageContext) -> Figures:
        """Predict the images that are missing."""
        network = open_network(context, self.network, Segmenter)

        def work(group_of: Mapping[str, tuple[str, ...]], ids: Sequence[str]) -> Labelled:
            for members in dict.fromkeys(group_of[image_id] for image_id in ids):
                for image_id, probabilities in zip(members, self._infer(context, network, members), strict=True):
                    yield image_id, [self._label(context, image_id, probabilities)]

        figures: Figures = {}
        for split in self.splits:
            ids, sizes = context.ids(split), [(height, width) for height, width in context.sizes(split).tolist()]
            positions = batches_alike(sizes, self.batch_size)
            groups = [tuple(ids[position] for position in group) for group in positions]
            images = fill_mask_folders(
                context,
                f"{self.id} {split}",
                split,
                [context.folder / split],
                functools.partial(work, {image_id: group for group in groups for image_id in group}),
                together=groups,
            )
            figures[split] = {"images": images}
        return figures

    def _infer(self, context: StageContext, network: Segmenter, ids: Sequence[str]) -> np.ndarray:
        """Probabilities of images of one size: float32 (B, C + 1, H, W)."""
        images = load(context.data, ids, network.normalization, context.device)
        size = images.shape[2:]
        passes = (
            logits.flip(3) if mirrored else logits
            for logits, mirrored in outputs(network, images, self, context.arithmetic)
        )
        total = self._of_maximum(passes, size) if self.reduction == "max" else self._mean(passes, size)
        probabilities: np.ndarray = total.cpu().numpy()
        return probabilities

    def _mean(self, passes: Iterator[Tensor], size: torch.Size) -> Tensor:
        """The mean of the passes' probabilities at `size`."""
        total, count = torch.zeros(()), 0
        for logits in passes:
            total = total.to(logits.device) + self._upsampled(logits, size).softmax(1)
            count += 1
        return total.div_(count)

    def _of_maximum(self, passes: Iterator[Tensor], size: torch.Size) -> Tensor:
        """The probabilities at `size` of the passes' maximum."""
        logits = list(passes)
        largest = max((one.shape[2:] for one in logits), key=lambda shape: shape[0] * shape[1])
        maximum = torch.stack([self._upsampled(one, largest) for one in logits]).amax(0)
        return self._upsampled(maximum, size).softmax(1)

    def _upsampled(self, logits: Tensor, size: torch.Size) -> Tensor:
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=self.align_corners)

    def _label(self, context: StageContext, image_id: str, probabilities: np.ndarray) -> np.ndarray:
        if self.crf is not None:
            image = context.data.image(image_id)
            probabilities = crf(image, probabilities, threads=context.threads, **self.crf.model_dump())
        labels: np.ndarray = probabilities.argmax(0).astype(np.uint8)
        return labels
