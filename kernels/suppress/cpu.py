"""Suppression's passes on the CPU, one image a thread of torch's.

Where float16 and bfloat16 meet the compiled passes they are widened image by image.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

from camshaft.kernels.suppress import rows
from camshaft.kernels.suppress.gradient import rounded
from camshaft.kernels.suppress.rows import Floats

PARALLEL_ELEMENTS = 1 << 17
"""Below this many elements a second thread costs more than it saves."""


def why_not_here(x: Tensor) -> str | None:
    """None where the compiled passes can run on x, else the reason why they can't."""
    if x.device.type != "cpu":
        return f"the tensors are on {x.device.type}, not on the CPU"
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"{str(x.dtype).removeprefix('torch.')} is neither float32, float16 nor bfloat16"
    return None


class CompiledPasses:
    """See `camshaft.kernels.suppress.gradient.Passes`."""

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maximum and mean of relu(x)."""
        peak, mean = torch.empty(x.shape[:2]), torch.empty(x.shape[:2])
        run = rows.pixel_statistics if _channels_last(x) else rows.plane_statistics
        _each_image(x, lambda b: run(_widened(x, b), peak[b].numpy(), mean[b].numpy()))
        return peak, mean

    def clamp(self, x: Tensor, bound: Tensor) -> Tensor:
        """min(relu(x), bound)."""
        if x.dtype != torch.float32:
            return _clamped(torch.relu(x), bound)
        y = torch.empty_like(x)
        run = rows.pixel_clamp if _channels_last(x) else rows.plane_clamp
        _each_image(x, lambda b: _fill(y, b, run, _widened(x, b), bound[b].numpy()))
        return y

    def suppress(self, x: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """Maximum and clamp image by image, so that the second pass finds the image in the cache."""
        if x.dtype != torch.float32:
            positive = torch.relu(x)
            peak = positive.amax((2, 3)).float()
            bound = rounded(gate * peak, x)
            return _clamped(positive, bound), torch.stack([peak, bound], 1)
        y, mean, limits = torch.empty_like(x), torch.empty(x.shape[:2]), torch.empty(len(x), 2, x.shape[1])
        pixelwise = _channels_last(x)
        statistics = rows.pixel_statistics if pixelwise else rows.plane_statistics
        clamp = rows.pixel_clamp if pixelwise else rows.plane_clamp

        def one(b: int) -> None:
            values = _widened(x, b)
            statistics(values, limits[b, 0].numpy(), mean[b].numpy())
            limits[b, 1] = rounded(gate[b] * limits[b, 0], x)
            _fill(y, b, clamp, values, limits[b, 1].numpy())

        _each_image(x, one)
        return y, limits

    def overshoot(self, x: Tensor, grad: Tensor, limits: Tensor) -> Tensor:
        """The sums s and n."""
        sums = torch.empty_like(limits)
        run = rows.pixel_overshoot if _channels_last(x) else rows.plane_overshoot
        _each_image(x, lambda b: run(_widened(x, b), _widened(grad, b), limits[b].numpy(), sums[b].numpy()))
        return sums

    def spread(self, x: Tensor, grad: Tensor, limits: Tensor, shares: Tensor) -> Tensor:
        """The gradient dx."""
        dx = torch.empty_like(x)
        run = rows.pixel_spread if _channels_last(x) else rows.plane_spread

        def one(b: int) -> None:
            _fill(dx, b, run, _widened(x, b), _widened(grad, b), limits[b].numpy(), shares[b].numpy())

        _each_image(x, one)
        return dx

    def backward(self, x: Tensor, grad: Tensor, limits: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient dx and the sum s, image by image."""
        dx, sums, shares = torch.empty_like(x), torch.empty_like(limits), torch.zeros_like(limits)
        pixelwise = _channels_last(x)
        overshoot = rows.pixel_overshoot if pixelwise else rows.plane_overshoot
        spread = rows.pixel_spread if pixelwise else rows.plane_spread

        def one(b: int) -> None:
            values, grads = _widened(x, b), _widened(grad, b)
            overshoot(values, grads, limits[b].numpy(), sums[b].numpy())
            shares[b, 0] = sums[b, 0] * gate[b] / sums[b, 1]
            _fill(dx, b, spread, values, grads, limits[b].numpy(), shares[b].numpy())

        _each_image(x, one)
        return dx, sums[:, 0]


def _clamped(positive: Tensor, bound: Tensor) -> Tensor:
    """min(positive, bound) in place: for half precision torch's own passes are faster than widening."""
    return torch.minimum(positive, bound.to(positive.dtype)[:, :, None, None], out=positive)


def _channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _image(x: Tensor, b: int) -> Tensor:
    """Image b as (P, K) in channels-last memory, else (K, P)."""
    return x[b].flatten(1).t() if _channels_last(x) else x[b].flatten(1)


def _widened(x: Tensor, b: int) -> Floats:
    return _image(x.detach(), b).float().numpy()


def _fill(y: Tensor, b: int, run: Callable[..., None], *arguments: Floats) -> None:
    """Run a pass that writes its result into image b of y."""
    image = _image(y, b)
    if y.dtype == torch.float32:
        run(*arguments, image.numpy())
    else:
        wide = torch.empty_like(image, dtype=torch.float32)
        run(*arguments, wide.numpy())
        image.copy_(wide)


def _each_image(x: Tensor, work: Callable[[int], object]) -> None:
    threads = min(torch.get_num_threads(), len(x))
    if threads < 2 or x.numel() < PARALLEL_ELEMENTS:
        for b in range(len(x)):
            work(b)
    else:
        inference = torch.is_inference_mode_enabled()  # which belongs to a thread: the workers must be told

        def alike(b: int) -> None:
            with torch.inference_mode(inference):
                work(b)

        list(_pool(threads, os.getpid()).map(alike, range(len(x))))


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:  # noqa: ARG001 - a forked process needs a pool of its own
    return ThreadPoolExecutor(threads, "suppress")
