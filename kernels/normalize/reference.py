"""The definition of a normalised class activation map (CAM), in plain torch.

The papers divide before they upsample (DRS Eq. 1, OC-CSE Eq. 2); their authors' code upsamples first, before or after
the ReLU. The three orders differ in values and gradients, because the maximum of an upsampled map is taken over other
points. Shapes: B images, C classes, maps of h × w at the network's stride, outputs of H × W.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Order = Literal["relu_divide_upsample", "relu_upsample_divide", "upsample_relu_divide"]
Maximum = Literal["map", "batch"]
Reduction = Literal["sum", "max"]


@dataclass(frozen=True)
class Convention:
    """How a map is normalised, where papers and code differ; `camshaft.kernels.normalize.normalize` says more."""

    align_corners: bool
    eps: float
    maximum: Maximum
    order: Order


def upsample(maps: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Bilinear resampling of (B, C, h, w) to (B, C, H, W)."""
    return functional.interpolate(maps, size, mode="bilinear", align_corners=align_corners)


def normalize(maps: Tensor, tags: Tensor | None, size: tuple[int, int], convention: Convention) -> Tensor:
    """ReLU, division by (maximum + eps) and upsampling of maps (B, C, h, w) in the given order, times tags (B, C).

    maximum="batch" divides all maps by the one maximum of those that the tags keep.
    """
    kept = None if tags is None else tags.to(maps.dtype)[:, :, None, None]
    if convention.order == "relu_divide_upsample":
        return upsample(_divide(torch.relu(maps), kept, convention), size, convention.align_corners)
    if convention.order == "relu_upsample_divide":
        return _divide(upsample(torch.relu(maps), size, convention.align_corners), kept, convention)
    return _divide(torch.relu(upsample(maps, size, convention.align_corners)), kept, convention)


def _divide(positive: Tensor, kept: Tensor | None, convention: Convention) -> Tensor:
    if kept is not None:
        positive = positive * kept
    peak = positive.amax((2, 3), keepdim=True) if convention.maximum == "map" else positive.amax()
    return positive / (peak + convention.eps)


def accumulate(
    total: Tensor,
    maps: Tensor,
    tags: Tensor | None,
    convention: Convention,
    *,
    divide: bool,
    flipped: bool,
    reduction: Reduction,
) -> None:
    """Add maps (B, C, h, w) of one scale, upsampled, to total (B, C, H, W), or take the larger of both; in place."""
    size = (total.shape[2], total.shape[3])
    if divide:
        positive = normalize(maps, tags, size, convention)
    else:
        source = maps if convention.order == "upsample_relu_divide" else torch.relu(maps)
        positive = torch.relu(upsample(source, size, convention.align_corners))
        if tags is not None:
            positive = positive * tags.to(maps.dtype)[:, :, None, None]
    if flipped:
        positive = positive.flip(3)
    if reduction == "sum":
        total.add_(positive)
    else:
        torch.maximum(total, positive.to(total.dtype), out=total)
