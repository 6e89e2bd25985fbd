"""Classification by image tags: binary cross-entropy on the pooled maps' scores, OC-CSE eq. 1 and 4 (first term).

DRS's multilabel soft margin loss is the same: the mean over classes of the binary cross-entropy with logits.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from camshaft.engine.data.batch import Batch
from camshaft.engine.objectives.objective import Figures, Forward, Moment, Objective


def pooled_scores(maps: Tensor) -> Tensor:
    """Global average pooling of maps (B, C, h, w) to logits (B, C), in float32."""
    return maps.float().mean((2, 3))


def exact_match(scores: Tensor, tags: Tensor) -> Tensor:
    """Part of the images whose tags are all predicted right at probability 0.5: float32 ()."""
    return ((scores.detach() > 0) == (tags > 0.5)).all(1).float().mean()


class TagsObjective(Objective):
    """Mean binary cross-entropy between the maps' pooled scores and the tags."""

    def __call__(self, forward: Forward, batch: Batch, moment: Moment) -> tuple[Tensor, Figures]:
        """See `Objective`; figures: accuracy, the part of images with every tag right."""
        del moment
        scores = pooled_scores(forward(batch.image))
        loss = binary_cross_entropy_with_logits(scores, batch.tags)
        return loss, {"accuracy": exact_match(scores, batch.tags)}


def bce_per_image(scores: Tensor, tags: Tensor) -> Tensor:
    """Binary cross-entropy of each image, the mean over its classes: (B, C) twice to float32 (B,)."""
    return binary_cross_entropy_with_logits(scores, tags, reduction="none").mean(1)


def without_class(tags: Tensor, target: Tensor) -> Tensor:
    """t − {c}: tags (B, C) with each image's target (B,) set to 0; −1 leaves an image's tags as they are."""
    classes = torch.arange(tags.shape[1], device=tags.device)
    return torch.where(classes == target[:, None], torch.zeros_like(tags), tags)
