"""Erasing on the GPU: the autograd function over the kernels of `camshaft.kernels.normalize`."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from camshaft.kernels.normalize.gpu import Upsampling
from camshaft.kernels.normalize.reference import Convention


class Erase(torch.autograd.Function):
    """The erased image (B, A, H, W) from image and chosen maps (B, h, w); the mask is never stored."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, chosen: Tensor, convention: Convention) -> Tensor:
        """Keep both inputs and the maps' maxima."""
        chosen = chosen.contiguous()
        upsampling = Upsampling(chosen, None, (image.shape[2], image.shape[3]), convention)
        peak = upsampling.peak()
        image = _dense(image)
        out = torch.empty_like(image)
        upsampling.erase(image, out, peak)
        ctx.save_for_backward(image, chosen, peak)
        ctx.convention = convention
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """The gradients of the image, grad · (1 − M), and of the maps, through the mask."""
        image, chosen, peak = ctx.saved_tensors
        upsampling = Upsampling(chosen, None, (image.shape[2], image.shape[3]), ctx.convention)
        grad = torch.empty_like(image, dtype=grad.dtype).copy_(grad) if grad.stride() != image.stride() else grad
        to_image, to_maps = None, None
        if ctx.needs_input_grad[0]:
            to_image = torch.empty_like(image)
            upsampling.erase(grad, to_image, peak)
        if ctx.needs_input_grad[1]:
            to_maps = upsampling.backward(grad, peak, image)
        return to_image, to_maps, None


def _dense(image: Tensor) -> Tensor:
    return image if image.is_contiguous(memory_format=torch.channels_last) else image.contiguous()
