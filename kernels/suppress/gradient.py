"""Suppression as two autograd functions over a handful of passes, which the CPU and the GPU each supply.

With r = relu(x), m = max r, τ = G·m (rounded to x's dtype), y = min(r, τ) and the incoming gradient g, all per plane:

    s  = Σ g·[r > τ]                     gradient of τ
    dG = s·m,   dm = s·G                 the maximum's share dm is split evenly among the n pixels with r = m
    dx = [x > 0]·(g·[r < τ] + [r = m]·dm/n + dμ/HW)

where [r > τ] and [r < τ] are ½ for r = τ, as torch.minimum has it, and dμ is the gradient of the controller's input
μ = GAP(r): with G = σ(z), z = W·μ it is Wᵀ·(dG·G·(1 − G)). Only x is kept for the backward pass.
"""

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Passes(Protocol):
    """Passes over x (B, K, H, W), dense in either memory format. Numbers of a plane are float32, (B, K) or two of them
    as (B, 2, K): limits are m and τ, sums are s and n, shares are dm/n and dμ/HW.
    """

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maximum m and mean μ of relu(x), each (B, K)."""

    def clamp(self, x: Tensor, bound: Tensor) -> Tensor:
        """min(relu(x), bound), bound (B, K)."""

    def suppress(self, x: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """Maximum and clamp at once: y, and the limits."""

    def overshoot(self, x: Tensor, grad: Tensor, limits: Tensor) -> Tensor:
        """The sums."""

    def spread(self, x: Tensor, grad: Tensor, limits: Tensor, shares: Tensor) -> Tensor:
        """The gradient dx."""

    def backward(self, x: Tensor, grad: Tensor, limits: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient dx and s (B, K) at once, under a gate (B, K) that does not depend on x."""


def dense(x: Tensor) -> Tensor:
    """x itself if it is dense in either memory format, else a contiguous copy."""
    return x if x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()


def like(grad: Tensor, x: Tensor) -> Tensor:
    """The incoming gradient in x's memory format."""
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return grad.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def rounded(bound: Tensor, x: Tensor) -> Tensor:
    """The bound as the reference has it: rounded to x's dtype; float32."""
    return bound.to(x.dtype).float()


class Suppress(torch.autograd.Function):
    """y from x and a gate, float32 (B, K)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, passes: Passes) -> Tensor:
        """Keep x and three numbers a plane."""
        x = dense(x)
        y, limits = passes.suppress(x, gate)
        ctx.save_for_backward(x, gate, limits)
        ctx.passes = passes
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """The gradients of x and of the gate."""
        x, gate, limits = ctx.saved_tensors
        dx, s = ctx.passes.backward(x, like(grad, x), limits, gate)
        return dx, s * limits[:, 0], None


class SuppressWithController(torch.autograd.Function):
    """y from x and the controller's weight (K, K)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, passes: Passes) -> Tensor:
        """One pass for maximum and mean, one for the clamp."""
        x = dense(x)
        peak, mean = passes.statistics(x)
        gate = torch.sigmoid(mean @ weight.float().t())
        bound = rounded(gate * peak, x)
        ctx.save_for_backward(x, weight, mean, gate, torch.stack([peak, bound], 1))
        ctx.passes = passes
        return passes.clamp(x, bound)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """The gradients of x and of the weight."""
        x, weight, mean, gate, limits = ctx.saved_tensors
        grad = like(grad, x)
        s, n = ctx.passes.overshoot(x, grad, limits).unbind(1)
        dz = s * limits[:, 0] * gate * (1 - gate)
        at_positive = dz @ weight.float() / (x.shape[2] * x.shape[3])
        dx = ctx.passes.spread(x, grad, limits, torch.stack([s * gate / n, at_positive], 1))
        return dx, (dz.t() @ mean).to(weight.dtype), None
