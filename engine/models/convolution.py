"""Convolutions as the pretrained networks need them, and their fusion with batch normalisation."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


class Convolution(nn.Conv2d):
    """A square convolution whose padding keeps ceil(size / stride) outputs along each side.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernel: side of the kernel, odd.
        stride: distance between outputs, in pixels of the input.
        dilation: distance between the kernel's taps.
        groups: independent groups of channels.
        bias: add a learnt constant to each output channel.
        padding: "centred" pads both sides alike, as torchvision's networks do; "same" is TensorFlow's rule, which
            pads the lower right side by one pixel more where the total is odd (stride 2 and an even size). Weights
            that were trained under one rule see the image shifted under the other.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        padding: Literal["centred", "same"] = "centred",
    ) -> None:
        """See the class."""
        super().__init__(
            inputs,
            outputs,
            kernel,
            stride=stride,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=groups,
            bias=bias,
        )
        self._same = padding == "same" and stride > 1

    def convolve(self, x_BCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with `weight` and `bias` in place of the module's own; (B, C, H, W) to (B, C', H', W')."""
        if self._phases_pay(x_BCHW):
            return self._convolve_by_phases(x_BCHW, weight, bias)
        if not self._same:
            convolved: Tensor = self._conv_forward(x_BCHW, weight, bias)
            return convolved
        top, bottom = self._same_padding(x_BCHW.shape[-2])
        left, right = self._same_padding(x_BCHW.shape[-1])
        if top == bottom and left == right:
            padding = (top, left)
        elif x_BCHW.device.type == "cpu" and not torch.is_grad_enabled() and min(bottom - top, right - left) == 1:
            # A tap of zeros before the kernel shifts it as a pixel of zeros behind the image would, and costs no copy
            # of the image; only the gradients of even kernels are slow.
            weight = functional.pad(weight, (1, 0, 1, 0))
            padding = (bottom, right)
        else:
            x_BCHW = functional.pad(x_BCHW, (left, right, top, bottom))
            padding = (0, 0)
        return functional.conv2d(x_BCHW, weight, bias, self.stride, padding, self.dilation, self.groups)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Conv2d's name
        """(B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride))."""
        return self.convolve(input, self.weight, self.bias)

    def _phases_pay(self, x_BCHW: Tensor) -> bool:
        """True for a dilated depthwise filter that is trained on a CPU.

        oneDNN's gradients of these have no fast code, though those of plain depthwise filters have.
        """
        return (
            self.dilation[0] > 1
            and self.groups == self.in_channels == self.out_channels
            and self.stride[0] == 1
            and x_BCHW.device.type == "cpu"
            and torch.is_grad_enabled()
        )

    def _convolve_by_phases(self, x_BCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """A filter of dilation d as the plain filter on each of the d² phases: every d-th row of every d-th column."""
        d, (images, channels, height, width) = self.dilation[0], x_BCHW.shape
        x_BCHW = functional.pad(x_BCHW, (0, -width % d, 0, -height % d))
        rows, columns = x_BCHW.shape[2] // d, x_BCHW.shape[3] // d
        phases = x_BCHW.permute(0, 2, 3, 1).reshape(images, rows, d, columns, d, channels).permute(2, 4, 0, 1, 3, 5)
        phases = phases.reshape(d * d * images, rows, columns, channels).permute(0, 3, 1, 2)
        phases = functional.conv2d(phases, weight, bias, padding=self.kernel_size[0] // 2, groups=self.groups)
        y = phases.permute(0, 2, 3, 1).reshape(d, d, images, rows, columns, channels).permute(2, 3, 0, 4, 1, 5)
        y = y.reshape(images, rows * d, columns * d, channels).permute(0, 3, 1, 2)
        return y[:, :, :height, :width].contiguous(memory_format=torch.channels_last)

    def _same_padding(self, size: int) -> tuple[int, int]:
        """Pixels before and after a side of `size` pixels."""
        stride, reach = self.stride[0], (self.kernel_size[0] - 1) * self.dilation[0]
        total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
        return total // 2, total - total // 2


def normalized(x_BCHW: Tensor, convolution: Convolution, norm: nn.BatchNorm2d) -> Tensor:
    """`norm(convolution(x))` for a convolution without bias; one operation where the statistics are fixed.

    With fixed statistics batch normalisation is a scale and a shift a channel, which fold into the convolution's
    weight and bias. The gradients with respect to all four parameters stay exact, and neither direction passes over
    the feature maps a second time.
    """
    if norm.training or norm.running_mean is None or norm.running_var is None:
        return _tensor(norm(convolution(x_BCHW)))
    scale = norm.weight.float() * torch.rsqrt(norm.running_var.float() + norm.eps)
    shift = norm.bias.float() - norm.running_mean.float() * scale
    weight = convolution.weight
    folded = (weight.float() * scale[:, None, None, None]).to(weight.dtype)
    return convolution.convolve(x_BCHW, folded, shift.to(weight.dtype))


def _tensor(value: object) -> Tensor:
    assert isinstance(value, Tensor)
    return value
