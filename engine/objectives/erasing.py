"""Adversarial erasing, class-specific (OC-CSE) and class-agnostic: a guide looks at what a network's maps leave.

Kweon, Yoon, Kim, Park, Yoon: "Unlocking the Potential of Ordinary Classifier: Class-specific Adversarial Erasing
Framework for Weakly Supervised Semantic Segmentation", ICCV 2021, Eqs. 2–5; self-guidance as in Li et al., "Tell Me
Where to Look: Guided Attention Inference Network", CVPR 2018 (GAIN).
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from camshaft.engine.data.batch import Batch
from camshaft.engine.objectives.objective import Figures, Forward, Moment, Objective
from camshaft.engine.objectives.shared_maximum import by_maximum_of_all_ranks, several_ranks
from camshaft.engine.objectives.tags import bce_per_image, exact_match, pooled_scores, without_class
from camshaft.engine.recipe.settings import Settings, runtime_field
from camshaft.engine.runtime.seeds import derive
from camshaft.kernels.erase import erase
from camshaft.kernels.erase.reference import choose_map, sample_target


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
    guidance: Literal["fixed", "learning", "shared"] = "fixed"
    """The ordinary classifier, which does not learn; the same, learning on from whole images and tags in the same steps
    (OC-CSE, Section 5.3: "simultaneously updating"); or the network itself, as in GAIN."""
    weight: ErasingWeight = ErasingWeight()
    """The weight λ of the erasing term."""
    maximum: Literal["map", "batch"] = "batch"
    """What a map is divided by: its own maximum (paper), or the largest of the micro-batches that ranks compute at the
    same time (official); of those that a rank accumulates, each has its own."""
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

    A guide that learns adds a third term, its own classification of the whole image. The paper does not say what it
    learns from; here it stays an ordinary classifier, trained on raw images as before: what erasing leaves changes the
    network alone, as with a fixed guide.
    """

    def __init__(self, settings: ErasingSettings, guide: nn.Module | None = None) -> None:
        """Take the ordinary classifier as `guide`, which is frozen here unless it learns; None for shared guidance.

        A guide that learns belongs to the optimiser's parameters, and moves to the device with them.

        Raises:
            ValueError: the guide does not go with the settings' guidance.
        """
        if (guide is None) != (settings.guidance == "shared"):
            raise ValueError(f"guidance {settings.guidance!r} {'needs a' if guide is None else 'takes no'} guide")
        self._settings = settings
        self._guide = guide
        self._learns = settings.guidance == "learning"
        if guide is not None and not self._learns:
            guide.eval().requires_grad_(False)

    def to(self, device: torch.device) -> None:
        """Move a fixed guide."""
        if self._guide is not None and not self._learns:
            self._guide.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub

    def __call__(self, forward: Forward, batch: Batch, moment: Moment) -> tuple[Tensor, Figures]:
        """See `Objective`; figures: classification and erasing (the loss's terms, without λ), accuracy, weight (λ), and
        guide, the loss of a guide that learns."""
        maps = forward(batch.image).float()
        scores = pooled_scores(maps)
        classification = bce_per_image(scores, batch.tags).mean()
        lesson = None
        if self._guide is not None and self._learns:
            # Before it judges: the lesson moves statistics of normalisation, which judging's backward pass needs as
            # they were.
            lesson = bce_per_image(pooled_scores(self._guide.train()(batch.image)), batch.tags).mean()
        left, remaining, erased = self._erase(batch, maps, moment)
        # The guide's weights take no gradient, but the image does: through the mask it reaches the network's maps,
        # for the remaining classes too.
        judge = forward if self._guide is None else self._judge
        erasing = (bce_per_image(pooled_scores(judge(left)), remaining) * erased).mean()
        weight = self._settings.weight.at(moment.epoch)
        figures = {
            "classification": classification.detach(),
            "erasing": erasing.detach(),
            "accuracy": exact_match(scores, batch.tags),
            "weight": torch.full((), weight, device=maps.device),
        }
        loss = classification + weight * erasing
        if lesson is not None:
            loss, figures["guide"] = loss + lesson, lesson.detach()
        return loss, figures

    def _judge(self, left: Tensor) -> Tensor:
        """The guide's maps of what is left, in inference mode, its weights taken as they are."""
        assert self._guide is not None
        if self._learns:
            weights = {name: value.detach() for name, value in self._guide.named_parameters()}
            judged: Tensor = functional_call(self._guide.eval(), weights, (left,))
        else:
            judged = self._guide(left)
        return judged

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
            left = self._over_ranks(batch.image, left, maps * batch.tags[:, :, None, None])
            return left, torch.zeros_like(batch.tags), (batch.tags > 0).any(1).float()
        target = sample_targets(batch.tags, moment)
        left = erase(batch.image, maps, target=target, **options)  # type: ignore[arg-type]
        left = self._over_ranks(batch.image, left, choose_map(maps, target)[:, None])
        return left, without_class(batch.tags, target), (target >= 0).float()

    def _over_ranks(self, image: Tensor, left: Tensor, maps: Tensor) -> Tensor:
        """What is left where the batch's maximum is that of all ranks, so that it does not depend on their number."""
        settings = self._settings
        if settings.maximum == "map" or not several_ranks():
            return left
        return by_maximum_of_all_ranks(
            image, left, maps, order=settings.order, align_corners=settings.align_corners, eps=settings.eps
        )


def sample_targets(tags: Tensor, moment: Moment) -> Tensor:
    """Each image's target class, (B,) int64, −1 without tags; it depends on the step and the image alone.

    So it is the same whatever batch, rank or micro-batch the image is in.
    """
    # Hashed on the host, in microseconds an image: a generator of the device's for each is far slower there.
    draws = [derive(*moment.seed, "target class", index) / 2**63 for index in moment.index]
    return sample_target(tags, torch.tensor(draws, dtype=torch.float64).to(tags.device, non_blocking=True))
