"""Adversarial erasing, class-specific (OC-CSE) and class-agnostic: a guide looks at what a network's maps leave.

Kweon, Yoon, Kim, Park, Yoon: "Unlocking the Potential of Ordinary Classifier: Class-specific Adversarial Erasing
Framework for Weakly Supervised Semantic Segmentation", ICCV 2021, Eqs. 2–5; self-guidance as in Li et al., "Tell Me
Where to Look: Guided Attention Inference Network", CVPR 2018 (GAIN).
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from camshaft.engine.data.batch import Batch
from camshaft.engine.objectives.objective import Figures, Forward, Moment, Objective
from camshaft.engine.objectives.tags import bce_per_image, exact_match, pooled_scores, without_class
from camshaft.engine.recipe.settings import Settings, runtime_field
from camshaft.engine.runtime.seeds import derive
from camshaft.kernels.erase import erase
from camshaft.kernels.erase.reference import sample_target


class ErasingWeight(Settings):
    """The weight λ of the erasing term: start + slope · epoch."""

    start: float = Field(default=0.3, ge=0)
    """λ in the first epoch."""
    slope: float = Field(default=0.05, ge=0)
    """What each further epoch adds; below 0, λ would end negative. 0 for the paper's constant λ."""

    def at(self, epoch: int) -> float:
        """λ in an epoch, counted from 0."""
        return self.start + self.slope * epoch


class ErasingSettings(Settings):
    """How maps erase, and who judges what is left. The defaults are OC-CSE's public code."""

    erasing: Literal["class_specific", "class_agnostic"] = "class_specific"
    """Erase one class present, drawn at random, and keep the others (Eq. 4); or all classes present (Eq. 5)."""
    guidance: Literal["fixed", "shared"] = "fixed"
    """The ordinary classifier, which does not learn; or the network itself, as in GAIN."""
    weight: ErasingWeight = ErasingWeight()
    """The weight λ of the erasing term."""
    maximum: Literal["map", "batch"] = "batch"
    """What a map is divided by: its own maximum (paper), or the largest of the micro-batch (official)."""
    order: Literal["relu_divide_upsample", "relu_upsample_divide", "upsample_relu_divide"] = "upsample_relu_divide"
    """Order of ReLU, division and upsampling; Eq. 2 has relu_divide_upsample, the public code upsample_relu_divide."""
    align_corners: bool = False
    """Whether upsampling takes features to stand on every stride-th pixel from corner to corner, which goes with crops
    of whole strides plus one."""
    eps: float = Field(default=1e-5, gt=0)
    """Added to the maximum."""
    implementation: Literal["auto", "triton", "torch"] = runtime_field("auto")
    """Which twin erases."""


class ErasingObjective(Objective):
    """Classification of the image, plus λ times the classification of what erasing leaves of it (Eq. 4 and 5).

    An image without tags has nothing to erase: it adds no erasing term. Both terms are means over the batch's images.
    """

    def __init__(self, settings: ErasingSettings, guide: nn.Module | None = None) -> None:
        """Take the ordinary classifier as `guide`, which is frozen here; None for shared guidance.

        Raises:
            ValueError: the guide does not go with the settings' guidance.
        """
        if (guide is not None) != (settings.guidance == "fixed"):
            raise ValueError(f"guidance {settings.guidance!r} {'needs a' if guide is None else 'takes no'} guide")
        self._settings = settings
        self._guide = guide
        if guide is not None:
            guide.eval().requires_grad_(False)

    def to(self, device: torch.device) -> None:
        """Move the guide."""
        if self._guide is not None:
            self._guide.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub

    def __call__(self, forward: Forward, batch: Batch, moment: Moment) -> tuple[Tensor, Figures]:
        """See `Objective`; figures: classification and erasing (the loss's terms, without λ), accuracy, weight (λ)."""
        maps = forward(batch.image).float()
        scores = pooled_scores(maps)
        classification = bce_per_image(scores, batch.tags).mean()
        left, remaining, erased = self._erase(batch, maps, moment)
        # The guide's weights take no gradient, but the image does: through the mask it reaches the network's maps,
        # for the remaining classes too.
        judge = forward if self._guide is None else self._guide
        erasing = (bce_per_image(pooled_scores(judge(left)), remaining) * erased).mean()
        weight = self._settings.weight.at(moment.epoch)
        return classification + weight * erasing, {
            "classification": classification.detach(),
            "erasing": erasing.detach(),
            "accuracy": exact_match(scores, batch.tags),
            "weight": torch.full((), weight, device=maps.device),
        }

    def _erase(self, batch: Batch, maps: Tensor, moment: Moment) -> tuple[Tensor, Tensor, Tensor]:
        """What is left of the images, the classes that should still be seen in it, and 1 where something was erased."""
        options = {
            "maximum": self._settings.maximum,
            "order": self._settings.order,
            "align_corners": self._settings.align_corners,
            "eps": self._settings.eps,
            "implementation": self._settings.implementation,
        }
        if self._settings.erasing == "class_agnostic":
            left = erase(batch.image, maps, tags=batch.tags, **options)  # type: ignore[arg-type]
            return left, torch.zeros_like(batch.tags), (batch.tags > 0).any(1).float()
        target = sample_targets(batch.tags, moment)
        left = erase(batch.image, maps, target=target, **options)  # type: ignore[arg-type]
        return left, without_class(batch.tags, target), (target >= 0).float()


def sample_targets(tags: Tensor, moment: Moment) -> Tensor:
    """Each image's target class, (B,) int64, −1 without tags; it depends on the step and the image alone.

    So it is the same whatever batch, rank or micro-batch the image is in.
    """
    # Hashed on the host, in microseconds an image: a generator of the device's for each is far slower there.
    draws = [derive(*moment.seed, "target class", index) / 2**63 for index in moment.index]
    return sample_target(tags, torch.tensor(draws, dtype=torch.float64).to(tags.device, non_blocking=True))
