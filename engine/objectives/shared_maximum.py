"""Erasing by the maximum of a whole batch, where the batch is spread over ranks.

A kernel divides by the largest value that its own rank has. What it erased is then scaled: with m that value, M the
largest of all ranks and ε, image − left = image · P / (m + ε), so image · P / (M + ε) is it times (m + ε) / (M + ε).
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from camshaft.kernels.normalize.reference import Order, upsample


def several_ranks() -> bool:
    """Whether a batch is spread over ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def by_maximum_of_all_ranks(
    image: Tensor, left: Tensor, maps: Tensor, *, order: Order, align_corners: bool, eps: float
) -> Tensor:
    """What is left of images where the maps are divided by the maximum of all ranks; all ranks call this together.

    Args:
        image: (B, A, H, W).
        left: (B, A, H, W), what erasing by this rank's own maximum left of them.
        maps: (B, C, h, w), those that erased; zeros where one took no part.
        order: as in `camshaft.kernels.erase.erase`; likewise `align_corners` and `eps`.

    Returns:
        (B, A, H, W), differentiable with respect to all three; the maximum's gradient reaches the rank that has it.
    """
    size = (image.shape[2], image.shape[3])
    positive = torch.relu(maps)
    if order == "relu_upsample_divide":
        positive = upsample(positive, size, align_corners)
    elif order == "upsample_relu_divide":
        positive = torch.relu(upsample(maps, size, align_corners))
    own = positive.amax()
    ratio = (own + eps) / (maximum_of_ranks(own) + eps)
    return image - (image - left) * ratio.to(image.dtype)


def maximum_of_ranks(value: Tensor) -> Tensor:
    """The largest of all ranks' scalars; its gradient, summed over ranks, is that of the rank whose it is."""
    largest: Tensor = _MaximumOfRanks.apply(value)  # type: ignore[no-untyped-call]  # torch's stub
    return largest


class _MaximumOfRanks(torch.autograd.Function):
    """Ranks that tie share the gradient, as elements that tie do in torch's amax."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        largest = value.detach().clone()
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        ctx.owner = value.detach() == largest
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        sums = torch.stack([gradient, ctx.owner.to(gradient.dtype)])
        dist.all_reduce(sums)
        return torch.where(ctx.owner, sums[0] / sums[1], 0)
