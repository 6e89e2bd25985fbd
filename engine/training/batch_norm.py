"""Batch normalisation by the statistics of all ranks' images together, so that a training is the same on any number.

Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", ICML
2015; its gradients are those of the paper's Section 3, with every sum taken over ranks too.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from camshaft.engine.errors import TrainingError
from camshaft.kernels.choice import choose

PIXELS = (0, 2, 3)


class SharedBatchNorm(nn.BatchNorm2d):
    """The plain form, of collectives that every backend has. Ranks may have unequal numbers of values."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.BatchNorm2d's name
        """(B, K, H, W) to the same shape and dtype; all ranks call this together, and its backward pass too."""
        if not self.training:
            return super().forward(input)
        mean, variance, count = statistics_of_ranks(input.detach())
        if self.track_running_stats:
            self._follow(mean, variance * (count / (count - 1)))
        normalised: Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]  # torch's stub
            input, self.weight, self.bias, mean, torch.rsqrt(variance + self.eps), count
        )
        return normalised

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, as nn.BatchNorm2d does."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        factor = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
        self.running_var.lerp_(variance.to(self.running_var.dtype), factor)


class FusedSharedBatchNorm(nn.SyncBatchNorm, nn.BatchNorm2d):
    """torch's own, whose passes are fused; it takes tensors on GPUs alone."""

    process_group = None


def statistics_of_ranks(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of each channel over all ranks' (B, K, H, W), (K,) each, and the number of values (1,).

    float32, or float64 for float64. Each rank's variance is around its own mean, so that nothing cancels out.
    """
    variance, mean = torch.var_mean(_wide(x), PIXELS, correction=0)
    own = torch.cat([mean, variance, mean.new_tensor([x.numel() / x.shape[1]])])
    of_ranks = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(of_ranks, own)
    rows = torch.stack(of_ranks)
    (means, variances), counts = rows[:, :-1].chunk(2, 1), rows[:, -1:]
    count = counts.sum(0)
    mean = (means * counts).sum(0) / count
    return mean, ((variances + (means - mean) ** 2) * counts).sum(0) / count, count


class _Normalise(torch.autograd.Function):
    """(x − mean) · inverse · weight + bias, where mean and inverse, 1 / √(variance + ε), are those of all ranks' x.

    Gradients of weight and bias are this rank's share, as are those of all other parameters.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, inverse: Tensor, count: Tensor
    ) -> Tensor:
        scale = inverse if weight is None else inverse * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        ctx.save_for_backward(x, weight, mean, inverse, count)
        return (_wide(x) * _over_pixels(scale) + _over_pixels(shift)).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse, count = ctx.saved_tensors
        unit = (_wide(x) - _over_pixels(mean)) * _over_pixels(inverse)
        given = _wide(gradient)
        of_bias, of_weight = given.sum(PIXELS), (given * unit).sum(PIXELS)
        means = torch.cat([of_bias, of_weight])
        dist.all_reduce(means)
        along_bias, along_weight = (means / count).chunk(2)
        scale = inverse if weight is None else inverse * weight
        of_x = (given - _over_pixels(along_bias) - unit * _over_pixels(along_weight)) * _over_pixels(scale)
        wanted = ctx.needs_input_grad
        return of_x.to(x.dtype), of_weight if wanted[1] else None, of_bias if wanted[2] else None, None, None, None


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _over_pixels(of_channels: Tensor) -> Tensor:
    return of_channels[:, None, None]


def share_statistics(network: nn.Module, device: torch.device) -> None:
    """Let each batch normalisation that trains take the statistics of all ranks; names, hooks and states stay.

    Raises:
        TrainingError: one is of a kind whose statistics can't be shared.
    """
    network.train()
    for name, module in network.named_modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm) or not module.training:
            continue
        if type(module) is not nn.BatchNorm2d:
            raise TrainingError(
                f"batch_norm: train: {name} is a {type(module).__name__}, not torch's BatchNorm2d, so that ranks can't "
                "share its statistics; set batch_norm: frozen or train on one rank"
            )
        _become(_implementation(device), module)


def keep_statistics_apart(network: nn.Module) -> None:
    """Undo `share_statistics`."""
    for module in network.modules():
        if isinstance(module, SharedBatchNorm | FusedSharedBatchNorm):
            _become(nn.BatchNorm2d, module)


def _become(kind: type[nn.Module], module: nn.Module) -> None:
    """Give a module another class: a new module would lack its hooks and what was put into it."""
    module.__class__ = kind


def _implementation(device: torch.device) -> type[nn.Module]:
    """Which form runs; said once, and recorded."""
    reason = None if device.type == "cuda" else "works on GPUs only"
    chosen = choose("batch norm of all ranks", "auto", {"torch fused": reason, "plain": None})
    return FusedSharedBatchNorm if chosen == "torch fused" else SharedBatchNorm
