"""Recursive erase-and-infer with a fixed classifier: maps gathered without any training (OC-CSE, Section 3, Figure 2).

The classifier infers maps, what they highlight is erased from the image, it infers maps of what is left, and so on; the
maps of all rounds are put together. The paper states no threshold, number of rounds or way of putting together, and its
code leaves this experiment out: what the settings begin with is our choice.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from pydantic import Field, model_validator
from torch import Tensor

from camshaft.engine.models import Classifier
from camshaft.engine.runtime.precision import Arithmetic
from camshaft.engine.stages.maps import MapInference
from camshaft.engine.stages.stage import Input, Product
from camshaft.kernels.normalize import normalize

EPS = 1e-5
"""Added to the maximum that maps are divided by, as `normalize` does."""


@dataclass(frozen=True)
class Round:
    """What one inference saw and what it found."""

    images: Tensor
    """Normalised images without what the rounds before erased, (S, 3, H, W): one a sample."""
    maps: Tensor
    """Of the sample's classes, float32 (S, C, h, w) in [0, 1], 0 elsewhere."""


class EraseAndInfer(MapInference):
    """Maps of a fixed classifier on an image from which what was found before is erased, again and again."""

    kind: Literal["erase_and_infer"]
    network: Annotated[str, Input(Product.CLASSIFIER)]
    """The classifier, such as the ordinary one."""
    rounds: int = Field(2, ge=0, le=100)
    """How often the image is erased and inferred again; 0 leaves the maps as they are first inferred."""
    threshold: float = Field(0.5, gt=0, lt=1)
    """Pixels where a map is above it are erased, for good: they take the normalisation's mean colour."""
    erasing: Literal["class_agnostic", "class_specific"] = "class_agnostic"
    """Erase what is highlighted of any class present; or search for each class in an image of its own, from which that
    class alone is erased."""
    divide_by: Literal["round", "first"] = "round"
    """Divide a round's maps by their own maxima, so that every round finds something; or by those of the first maps, so
    that later rounds count as much as the classifier's answer, and an object that is gone is not found again."""
    aggregate: Literal["max", "sum"] = "max"
    """Take the maximum of all rounds' maps, or their sum, divided by its maximum."""

    produces: ClassVar[Product] = Product.MAPS

    @model_validator(mode="after")
    def _first_maxima_need_a_sum(self) -> "EraseAndInfer":
        if self.divide_by == "first" and self.reduction == "max":
            raise ValueError("divide_by: first needs reduction: sum; reduction: max divides the maps of every scale")
        return self

    def infer(
        self, network: Classifier, images: Tensor, tags: Tensor, grid: tuple[int, int], *, arithmetic: Arithmetic
    ) -> Tensor:
        """See `MapInference.infer`."""
        samples, present = self.samples(tags)
        rounds = self.infer_rounds(network, images[samples], present, grid, arithmetic=arithmetic)
        return self.aggregated(rounds, samples, tags)

    def samples(self, tags: Tensor) -> tuple[Tensor, Tensor]:
        """Of which images, int64 (S,), and for which classes, float32 (S, C), an inference is made a round.

        One an image; class-specific, one for each class of each image.
        """
        if self.erasing == "class_agnostic":
            return torch.arange(len(tags), device=tags.device), tags
        rows, classes = torch.nonzero(tags, as_tuple=True)
        return rows, F.one_hot(classes, tags.shape[1]).to(tags.dtype)

    def infer_rounds(
        self, network: Classifier, images: Tensor, tags: Tensor, grid: tuple[int, int], *, arithmetic: Arithmetic
    ) -> list[Round]:
        """All rounds of samples of one size, the first with nothing erased; arguments as `infer` takes them."""
        by_maximum = self.reduction == "max"
        rounds: list[Round] = []
        first_maxima = None
        for number in range(self.rounds + 1):
            total = self.accumulated(network, images, tags, grid, arithmetic=arithmetic, divide=by_maximum)
            if first_maxima is None:
                first_maxima = total.amax((2, 3), keepdim=True)
            if by_maximum:
                maps = total.clamp(max=1)
            elif self.divide_by == "first":
                maps = (total / (first_maxima + EPS)).clamp_(max=1)
            else:
                maps = normalize(total, tags=tags)
            rounds.append(Round(images, maps))
            if number < self.rounds:
                images = images * ~self._highlighted(maps, (images.shape[2], images.shape[3]))
        return rounds

    def aggregated(self, rounds: list[Round], samples: Tensor, tags: Tensor) -> Tensor:
        """The maps of all rounds as one: float32 (B, C, h, w) of the images with these tags."""
        together = torch.stack([one.maps for one in rounds])
        maps = together.amax(0) if self.aggregate == "max" else together.sum(0)
        # A sample holds zeros but for its own classes, so adding puts an image's samples beside each other.
        whole = maps.new_zeros((len(tags), *maps.shape[1:])).index_add_(0, samples, maps)
        return whole if self.aggregate == "max" else normalize(whole, tags=tags)

    def _highlighted(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """True, (S, 1, H, W), where a sample's maps are above the threshold."""
        full = F.interpolate(maps, size=size, mode="bilinear", align_corners=self.align_corners)
        return (full > self.threshold).any(1, keepdim=True)
