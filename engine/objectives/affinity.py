"""AffinityNet's objective: pairs of near pixels with a sure label should be alike where their labels are.

Ahn and Kwak, "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly Supervised Semantic
Segmentation", CVPR 2018, Section 3.2. The paper weighs the terms of its loss 1, 1 and 2; the public code a quarter of
that, which is the default here.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import interpolate, pad

from camshaft.engine.data import VOID
from camshaft.engine.data.batch import Batch
from camshaft.engine.objectives.objective import Figures, Forward, Moment, Objective
from camshaft.engine.recipe.settings import Settings
from camshaft.kernels.walk.stencil import half_disc, margin_of
from camshaft.kernels.walk.tensors import affinities

TERMS = ("background", "foreground", "negative")
"""The kinds of pairs, as `pair_kinds` numbers them from 1."""


class PairWeights(Settings):
    """Weights of the loss's three terms, each a mean over the pairs of its kind."""

    background: float = Field(default=0.25, ge=0)
    """Both pixels are background."""
    foreground: float = Field(default=0.25, ge=0)
    """Both are of one class."""
    negative: float = Field(default=0.5, ge=0)
    """They have different labels."""


class AffinitySettings(Settings):
    """Which pairs of pixels are looked at, and how they are weighed."""

    radius: int = Field(default=5, ge=2, le=16)
    """Pairs lie closer than this, in cells of the grid."""
    border: Literal["psa", "none"] = "psa"
    """psa: the first pixel of a pair keeps radius - 1 from the left, right and lower border, as in the public code;
    none: every pair in the grid."""
    weights: PairWeights = PairWeights()
    """Weights of the terms; 1, 1 and 2 in the paper."""
    eps: float = Field(default=1e-5, gt=0)
    """Added within the logarithms."""


class AffinityObjective(Objective):
    """Cross-entropy between affinities of pairs and whether their labels are equal.

    Its terms have numbers of pairs that differ from image to image; the training loop weighs each by its own, so that
    a term is a mean over all pairs of a step.
    """

    def __init__(self, settings: AffinitySettings, stride: int, *, align_corners: bool) -> None:
        """Take the settings, and how the network's embedding lies over the image: see `labels_on_grid`."""
        self._settings = settings
        self._stride = stride
        self._align_corners = align_corners

    def __call__(self, forward: Forward, batch: Batch, moment: Moment) -> tuple[Tensor, Figures]:
        """See `Objective`; the loss has a term for each kind of pairs, 0 where there are none.

        Figures: background, foreground and negative, the terms before their weights; and background_pairs,
        foreground_pairs and negative_pairs, how many an image has.
        """
        del moment
        embedding = forward(batch.image).float()
        kinds = self._kinds(batch)
        affinity = affinities(embedding, self._settings.radius, self._settings.border)
        alike, unlike = -torch.log(affinity + self._settings.eps), -torch.log(1 + self._settings.eps - affinity)
        means, counts = [], []
        for kind, cost in enumerate((alike, alike, unlike), start=1):
            chosen = kinds == kind
            counts.append(chosen.sum())
            means.append((cost * chosen).sum() / counts[-1].clamp(min=1))
        figures = {name: mean.detach() for name, mean in zip(TERMS, means, strict=True)}
        figures |= {f"{name}_pairs": count / len(kinds) for name, count in zip(TERMS, counts, strict=True)}
        weights = self._settings.weights
        factors = (weights.background, weights.foreground, weights.negative)
        return torch.stack([mean * factor for mean, factor in zip(means, factors, strict=True)]), figures

    def weight(self, batch: Batch) -> tuple[float, ...]:
        """Pairs of each kind."""
        kinds = self._kinds(batch)
        return tuple(float((kinds == kind).sum()) for kind in range(1, len(TERMS) + 1))

    def _kinds(self, batch: Batch) -> Tensor:
        if batch.target is None:
            raise ValueError("affinities need a batch with label images as its target")
        labels = labels_on_grid(batch.target, self._stride, align_corners=self._align_corners)
        return pair_kinds(labels, self._settings.radius, self._settings.border)


def labels_on_grid(labels: Tensor, stride: int, *, align_corners: bool) -> Tensor:
    """Labels where a network's features stand.

    Args:
        labels: uint8 (B, H, W).
        stride: pixels of the image to a feature.
        align_corners: features stand on every stride-th pixel; else in the middle of areas side by side.

    Returns:
        uint8 (B, ceil(H / stride), ceil(W / stride)).
    """
    if align_corners:
        return labels[:, ::stride, ::stride]
    size = [-(-side // stride) for side in labels.shape[1:]]
    return interpolate(labels[:, None].float(), size, mode="nearest-exact")[:, 0].to(labels.dtype)


def pair_kinds(labels: Tensor, radius: int, border: str) -> Tensor:
    """What the labels say of each pair of pixels that are closer than `radius`.

    Args:
        labels: uint8 (B, h, w): 0 background, classes, 255 not sure.
        radius: in cells of the grid.
        border: "psa" or "none", as camshaft.kernels.walk.affinities has them.

    Returns:
        uint8 (B, N, h, w), N = len(half_disc(radius)): plane n holds, at p, for p and p + half_disc(radius)[n]:
        1 both background, 2 both of one class, 3 of different labels, 0 where one is not sure or there is no pair.
    """
    reach, margin = radius - 1, margin_of(border, radius)
    height, width = labels.shape[1:]
    offsets = torch.from_numpy(half_disc(radius).copy()).to(labels.device)
    around = pad(labels, (reach, reach, 0, reach), value=VOID).unfold(1, radius, 1).unfold(2, 2 * reach + 1, 1)
    there = around[..., offsets[:, 0], offsets[:, 1] + reach]
    here = labels[..., None]
    inside = torch.zeros(1, height, width, 1, dtype=torch.bool, device=labels.device)
    inside[:, : max(0, height - margin), margin : max(margin, width - margin)] = True
    sure = inside & (here != VOID) & (there != VOID)
    kinds = torch.where(here == there, torch.where(here == 0, 1, 2), 3) * sure
    return kinds.to(torch.uint8).movedim(-1, 1)
