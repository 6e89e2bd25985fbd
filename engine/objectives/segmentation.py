"""Semantic segmentation: cross-entropy with label images, pixels of label 255 left out."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from camshaft.engine.data.batch import Batch
from camshaft.engine.objectives.objective import Figures, Forward, Moment, Objective
from camshaft.engine.recipe.settings import Settings

IGNORE = 255


class SegmentationSettings(Settings):
    """Where logits and labels meet."""

    resolution: Literal["labels", "logits"] = "labels"
    """labels: logits are upsampled bilinearly to the labels; logits: labels are thinned out to the logits (nearest), as
    DeepLab's original code does."""
    align_corners: bool = False
    """Whether upsampling aligns the corners' pixels, as DeepLab-v2's code does."""


class SegmentationObjective(Objective):
    """Cross-entropy, the mean over all pixels with a label; 0, with gradient 0, where there are none."""

    def __init__(self, settings: SegmentationSettings, stride: int) -> None:
        """Take the settings, and the network's output stride: its logits are (B, C + 1, ⌈H/stride⌉, ⌈W/stride⌉)."""
        self._settings = settings
        self._stride = stride

    def __call__(self, forward: Forward, batch: Batch, moment: Moment) -> tuple[Tensor, Figures]:
        """See `Objective`; figures: pixel_accuracy over the pixels with a label."""
        del moment
        logits = forward(batch.image).float()
        labels = self._labels(batch)
        if logits.shape[2:] != labels.shape[1:]:
            logits = interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=self._settings.align_corners)
        counted = (labels != IGNORE).sum()
        total = cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
        right = ((logits.detach().argmax(1) == labels) & (labels != IGNORE)).sum()
        pixels = counted.clamp(min=1)
        return total / pixels, {"pixel_accuracy": right / pixels}

    def weight(self, batch: Batch) -> float:
        """Pixels with a label."""
        return float((self._labels(batch) != IGNORE).sum())

    def _labels(self, batch: Batch) -> Tensor:
        """The batch's labels where the loss is taken: int64 (B, H, W)."""
        if batch.target is None:
            raise ValueError("segmentation needs a batch with label images as its target")
        labels = batch.target
        if self._settings.resolution == "logits":
            size = [-(-pixels // self._stride) for pixels in labels.shape[1:]]
            labels = interpolate(labels[:, None].float(), size, mode="nearest-exact")[:, 0]
        return labels.to(torch.int64)
