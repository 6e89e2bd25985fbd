"""Suppression's passes on the GPU: launches of the Triton kernels."""

from functools import cache

import torch
from torch import Tensor

from camshaft.kernels.suppress import device
from camshaft.kernels.suppress.gradient import rounded
from camshaft.kernels.suppress.plan import Plan, plan

INTERPRETED_MULTIPROCESSORS = 8


class TritonPasses:
    """See `camshaft.kernels.suppress.gradient.Passes`."""

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maximum and mean of relu(x)."""
        division = _plan(x, 1)
        tiles, splits = division.walk, division.splits
        partial = x.new_empty((splits, len(x), 2, x.shape[1]), dtype=torch.float32)
        grid = (_programs(x, tiles.planes), splits)
        device.statistics_kernel[grid](
            x, partial, len(x), *_geometry(x), splits, tiles.planes, tiles.pixels, num_warps=tiles.warps
        )
        pixels = x.shape[2] * x.shape[3]
        if splits == 1:
            return partial[0, :, 0], partial[0, :, 1] / pixels
        return partial[:, :, 0].amax(0), partial[:, :, 1].sum(0) / pixels

    def clamp(self, x: Tensor, bound: Tensor) -> Tensor:
        """min(relu(x), bound)."""
        y = torch.empty_like(x)
        division = _plan(x, 1)
        tiles, splits = division.walk, division.splits
        grid = (_programs(x, tiles.planes), splits)
        device.clamp_kernel[grid](
            x, bound.contiguous(), y, *_geometry(x), splits, tiles.planes, tiles.pixels, num_warps=tiles.warps
        )
        return y

    def suppress(self, x: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """Maximum and clamp: one kernel where enough programs can own whole planes, else two."""
        tiles = _plan(x, 1).once
        if tiles is None:
            peak, _ = self.statistics(x)
            bound = rounded(gate * peak, x)
            return self.clamp(x, bound), torch.stack([peak, bound], 1)
        y = torch.empty_like(x)
        limits = x.new_empty((len(x), 2, x.shape[1]), dtype=torch.float32)
        device.suppress_kernel[(_programs(x, tiles.planes),)](
            x,
            gate.contiguous(),
            y,
            limits,
            *_geometry(x),
            tiles.planes,
            tiles.pixels,
            tiles.whole,
            num_warps=tiles.warps,
        )
        return y, limits

    def overshoot(self, x: Tensor, grad: Tensor, limits: Tensor) -> Tensor:
        """The sums s and n."""
        division = _plan(x, 2)
        tiles, splits = division.walk, division.splits
        partial = x.new_empty((splits, *limits.shape), dtype=torch.float32)
        grid = (_programs(x, tiles.planes), splits)
        device.overshoot_kernel[grid](
            x, grad, limits, partial, len(x), *_geometry(x), splits, tiles.planes, tiles.pixels, num_warps=tiles.warps
        )
        return partial[0] if splits == 1 else partial.sum(0)

    def spread(self, x: Tensor, grad: Tensor, limits: Tensor, shares: Tensor) -> Tensor:
        """The gradient dx."""
        dx = torch.empty_like(x)
        division = _plan(x, 2)
        tiles, splits = division.walk, division.splits
        grid = (_programs(x, tiles.planes), splits)
        device.spread_kernel[grid](
            x, grad, limits, shares, dx, *_geometry(x), splits, tiles.planes, tiles.pixels, num_warps=tiles.warps
        )
        return dx

    def backward(self, x: Tensor, grad: Tensor, limits: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient dx and the sum s: one kernel where enough programs can own whole planes, else two."""
        tiles = _plan(x, 2).once
        if tiles is None:
            s, n = self.overshoot(x, grad, limits).unbind(1)
            at_peak = s * gate / n
            return self.spread(x, grad, limits, torch.stack([at_peak, torch.zeros_like(at_peak)], 1)), s
        dx, over = torch.empty_like(x), torch.empty_like(limits[:, 0])
        arguments = (x, grad, limits, gate.contiguous(), dx, over, *_geometry(x))
        device.backward_kernel[(_programs(x, tiles.planes),)](
            *arguments, tiles.planes, tiles.pixels, tiles.whole, num_warps=tiles.warps
        )
        return dx, over


def _geometry(x: Tensor) -> tuple[int, int, int, int, int]:
    """K, P and the strides of image, channel and pixel."""
    _, channels, height, width = x.shape
    if x.is_contiguous():
        return channels, height * width, channels * height * width, height * width, 1
    return channels, height * width, channels * height * width, 1, channels


def _programs(x: Tensor, planes: int) -> int:
    return len(x) * -(-x.shape[1] // planes)


def _plan(x: Tensor, tensors: int) -> Plan:
    shape = (len(x), x.shape[1], x.shape[2] * x.shape[3])
    return plan(shape, not x.is_contiguous(), x.element_size(), tensors, _multiprocessors(x.device))


@cache
def _multiprocessors(where: torch.device) -> int:
    if where.type != "cuda":
        return INTERPRETED_MULTIPROCESSORS
    return torch.cuda.get_device_properties(where).multi_processor_count
