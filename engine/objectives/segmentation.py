"""Semantic segmentation: cross-entropy with label images, pixels of label 255 left out; for DeepLab-v2 at many scales.

Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully Connected
CRFs", TPAMI 2017, "Multi-scale Processing".
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate, pad

from camshaft.engine.data import VOID
from camshaft.engine.data.batch import Batch
from camshaft.engine.models.scales import scaled_size
from camshaft.engine.objectives.objective import Figures, Forward, Moment, Objective
from camshaft.engine.recipe.settings import Settings, added_field


class SegmentationSettings(Settings):
    """Where logits and labels meet, and at which scales."""

    resolution: Literal["labels", "logits"] = "labels"
    """labels: logits are upsampled bilinearly to the labels; logits: labels are thinned out to the logits, as DeepLab's
    original code does."""
    align_corners: bool = False
    """Features stand on every stride-th pixel from corner to corner, as in DeepLab's original code, and scaled sides
    are whole strides plus one; false: features are areas, and labels are thinned out by nearest neighbour."""
    scales: tuple[Annotated[float, Field(gt=0, le=1)], ...] = added_field((1.0,), min_length=1)
    """Sizes of the crop that the network sees, 1 among them. With several, the loss is the sum of those at each scale
    and of the one at their pixelwise maximum; DeepLab-v2 has 1, 0.75 and 0.5."""
    self_training: bool = added_field(False)
    """Add, at every pixel, the cross-entropy with the network's own strongest class, its logits multiplied by the
    image's tags before (1 for the background), as DRS's code does and its paper does not say."""

    @field_validator("scales")
    @classmethod
    def _one_is_among_them(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if 1.0 not in value or len(set(value)) < len(value):
            raise ValueError(f"must hold 1, and no scale twice, not {list(value)}")
        return value


class SegmentationObjective(Objective):
    """Cross-entropy, the mean over all pixels with a label; 0, with gradient 0, where there are none.

    At a reduced scale a pixel of thinned labels stands for more of the image: sums are scaled to the pixels of scale 1,
    so that one number of labelled pixels weighs all terms of a micro-batch.
    """

    def __init__(self, settings: SegmentationSettings, stride: int) -> None:
        """Take the settings, and the network's output stride: its logits are (B, C + 1, ⌈H/stride⌉, ⌈W/stride⌉)."""
        self._settings = settings
        self._stride = stride

    def __call__(self, forward: Forward, batch: Batch, moment: Moment) -> tuple[Tensor, Figures]:
        """See `Objective`; figures: pixel_accuracy over the pixels with a label, and self_training, that term, if on.

        The self-training term is a mean over all pixels, ignored ones and padding among them; micro-batches weigh as
        they do for the first term.
        """
        del moment
        outputs = self._outputs(forward, batch.image)
        labels = self._labels(batch)
        pixels = (labels != VOID).sum().clamp(min=1)
        loss = outputs[-1].new_zeros(())
        own = outputs[-1].new_zeros(())
        for logits in outputs:
            compared, truth = self._compared(logits, batch)
            share = labels[0].numel() / truth[0].numel()
            loss = loss + share * cross_entropy(compared, truth, ignore_index=VOID, reduction="sum") / pixels
            if self._settings.self_training:
                own = own + cross_entropy(compared, _own_classes(compared, batch.tags))
        strongest = self._compared(outputs[-1].detach(), batch)[0].argmax(1)
        right = ((strongest == labels) & (labels != VOID)).sum()
        figures = {"pixel_accuracy": right / pixels}
        if self._settings.self_training:
            figures["self_training"] = own.detach()
        return loss + own, figures

    def weight(self, batch: Batch) -> float:
        """Pixels with a label."""
        return float((self._labels(batch) != VOID).sum())

    def _outputs(self, forward: Forward, image: Tensor) -> list[Tensor]:
        """Logits at each scale, float32; with several their maximum at scale 1's size comes last."""
        aligned = self._settings.align_corners
        outputs = []
        for scale in self._settings.scales:
            size = (image.shape[2], image.shape[3])
            if scale != 1:
                size = scaled_size(size, scale, self._stride if aligned else None)
                scaled = interpolate(image, size, mode="bilinear", align_corners=aligned)
                outputs.append(forward(scaled.contiguous(memory_format=torch.channels_last)).float())
            else:
                outputs.append(forward(image).float())
        if len(outputs) > 1:
            full = outputs[self._settings.scales.index(1.0)].shape[2:]
            same = [_resized(logits, full, aligned) for logits in outputs]
            outputs.append(torch.stack(same).amax(0))
        return outputs

    def _compared(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits and labels at the resolution where they meet: (B, C + 1, h, w) and int64 (B, h, w)."""
        assert batch.target is not None
        if self._settings.resolution == "labels":
            full = batch.target.shape[1:]
            return _resized(logits, full, self._settings.align_corners), batch.target.to(torch.int64)
        return logits, self._thinned(batch.target, logits.shape[2:])

    def _labels(self, batch: Batch) -> Tensor:
        """The batch's labels where the loss of scale 1 is taken: int64 (B, H, W)."""
        if batch.target is None:
            raise ValueError("segmentation needs a batch with label images as its target")
        if self._settings.resolution == "labels":
            return batch.target.to(torch.int64)
        return self._thinned(batch.target, [-(-pixels // self._stride) for pixels in batch.target.shape[1:]])

    def _thinned(self, labels: Tensor, size: "torch.Size | list[int]") -> Tensor:
        """Labels (B, H, W) at fewer pixels: those where features stand, int64 (B, h, w)."""
        if not self._settings.align_corners:
            return interpolate(labels[:, None].float(), size, mode="nearest-exact")[:, 0].to(torch.int64)
        rows, columns = (
            torch.linspace(0, side - 1, count, device=labels.device).round().to(torch.int64)
            for side, count in zip(labels.shape[1:], size, strict=True)
        )
        return labels[:, rows][:, :, columns].to(torch.int64)


def _resized(logits: Tensor, size: "torch.Size | list[int]", align_corners: bool) -> Tensor:
    if list(logits.shape[2:]) == list(size):
        return logits
    return interpolate(logits, size, mode="bilinear", align_corners=align_corners)


def _own_classes(logits: Tensor, tags: Tensor) -> Tensor:
    """The strongest of logits · tags at each pixel, (B, h, w): a class that is not there counts as a logit of 0."""
    present = pad(tags, (1, 0), value=1.0)
    return (logits.detach() * present[:, :, None, None]).argmax(1)
