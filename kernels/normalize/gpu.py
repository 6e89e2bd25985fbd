"""Normalising on the GPU: launches of the Triton kernels, and the autograd function over them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from camshaft.kernels.normalize import adjoint, device
from camshaft.kernels.normalize.reference import Convention, Reduction

REDUCTIONS: dict[Reduction | None, int] = {None: 0, "sum": 1, "max": 2}
BANDS = 4
"""Bands of output rows that a program of the normalisation writes."""
OWN_ROWS, OWN_COLUMNS = 4, 16
"""Source pixels that a program of the adjoint owns."""


@dataclass(frozen=True)
class Upsampling:
    """Maps (N, h, w), contiguous, brought to `size` under `convention`; `kept` (N,) float32 are their tags."""

    maps: Tensor
    kept: Tensor | None
    size: tuple[int, int]
    convention: Convention

    @property
    def geometry(self) -> tuple[int, int, int, int, float, float]:
        """h, w, H, W and torch's scales of both axes."""
        (h, w), (height, width) = self.maps.shape[1:], self.size
        if self.convention.align_corners:
            scales = (h - 1) / max(height - 1, 1) * (height > 1), (w - 1) / max(width - 1, 1) * (width > 1)
        else:
            scales = h / height, w / width
        return h, w, height, width, *scales

    @property
    def relu_first(self) -> bool:
        """Whether the ReLU comes before upsampling."""
        return self.convention.order != "upsample_relu_divide"

    @property
    def peak_on_map(self) -> bool:
        """Whether the maximum is the map's own."""
        return self.convention.order == "relu_divide_upsample"

    @property
    def tags(self) -> Tensor:
        """The tags, or any tensor in their place."""
        return self.maps if self.kept is None else self.kept

    def peak(self) -> Tensor:
        """The maximum that divides: float32 (N,) for "map", (1,) for "batch"."""
        peak = self.maps.new_empty(len(self.maps), dtype=torch.float32)
        device.peak_kernel[(len(self.maps),)](
            self.maps,
            self.tags,
            peak,
            *self.geometry,
            self.relu_first,
            self.peak_on_map,
            self.convention.align_corners,
            self.kept is not None,
            ROWS=16,
            COLUMNS=128,
            num_warps=8,
            enable_fp_fusion=False,
        )
        return peak if self.convention.maximum == "map" else peak.amax(0, keepdim=True)

    def write(
        self, out: Tensor, peak: Tensor | None, *, flipped: bool = False, reduction: Reduction | None = None
    ) -> None:
        """The upsampled maps, divided where a peak is given, into out (N, H, W), contiguous."""
        rows, columns = _tile(self.size[1])
        device.normalize_kernel[(len(self.maps), -(-self.maps.shape[1] // BANDS), -(-self.size[1] // columns))](
            self.maps,
            self.tags,
            self.maps if peak is None else peak,
            self.peak_stride,
            self.convention.eps,
            out,
            *self.geometry,
            self.relu_first,
            self.convention.align_corners,
            self.kept is not None,
            peak is not None,
            flipped,
            REDUCTIONS[reduction],
            BANDS,
            rows,
            columns,
            num_warps=4,
            enable_fp_fusion=False,
        )

    def erase(self, image: Tensor, out: Tensor, peak: Tensor) -> None:
        """image · (1 − M), image and out (N, A, H, W) with the same strides."""
        rows, columns = _tile(self.size[1])
        device.erase_kernel[(len(self.maps), self.maps.shape[1], -(-self.size[1] // columns))](
            self.maps,
            peak,
            self.peak_stride,
            self.convention.eps,
            image,
            out,
            *self.geometry,
            *image.stride(),
            self.relu_first,
            self.convention.align_corners,
            image.shape[1],
            rows,
            columns,
            num_warps=4,
            enable_fp_fusion=False,
        )

    def backward(self, grad: Tensor, peak: Tensor, image: Tensor | None = None) -> Tensor:
        """The gradient of the maps from grad (N, A, H, W): that of the normalised maps (A = 1), or of the erased image.

        Image and gradient have the same strides.
        """
        number, h, w = self.maps.shape
        scale_x = max(self.geometry[5], 1e-6)
        columns = max(16, min(_power(int((OWN_COLUMNS + 1) / scale_x) + 3), 128))
        step = max(1, min(int((columns - 3) * scale_x) - 1, OWN_COLUMNS))
        tiles = -(-h // OWN_ROWS) * -(-w // step)
        direct = torch.empty_like(self.maps, dtype=torch.float32)
        tied = direct if self.peak_on_map else torch.empty_like(direct)
        sums = direct.new_empty(tiles, 2, number)
        adjoint.adjoint_kernel[(number, tiles)](
            self.maps,
            self.tags,
            peak,
            self.peak_stride,
            grad,
            grad if image is None else image,
            direct,
            tied,
            sums,
            number,
            step,
            *self.geometry,
            *grad.stride(),
            self.relu_first,
            self.peak_on_map,
            self.convention.align_corners,
            self.kept is not None,
            0 if image is None else image.shape[1],
            OWN_ROWS,
            OWN_COLUMNS,
            ROWS=8,
            COLUMNS=columns,
            num_warps=4,
            enable_fp_fusion=False,
        )
        totals = sums.sum(0) if self.convention.maximum == "map" else sums.sum((0, 2))
        out = torch.empty_like(self.maps)
        adjoint.finish_kernel[(number, -(-h * w // 1024))](
            self.maps,
            self.tags,
            peak,
            self.peak_stride,
            self.convention.eps,
            direct,
            tied,
            totals,
            len(peak),
            out,
            h * w,
            self.relu_first,
            self.peak_on_map,
            self.kept is not None,
            BLOCK=1024,
            num_warps=4,
        )
        return out

    @property
    def peak_stride(self) -> int:
        """1 where each map has a maximum of its own, 0 where all share one."""
        return int(self.convention.maximum == "map")


class Normalize(torch.autograd.Function):
    """Normalised maps (B, C, H, W) from maps (B, C, h, w) and tags (B, C) or None."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, tags: Tensor | None, size: tuple[int, int], convention: Convention) -> Tensor:
        """Keep the maps and their maxima."""
        upsampling = Upsampling(_flat(maps), _kept(tags), size, convention)
        peak = upsampling.peak()
        out = maps.new_empty((*maps.shape[:2], *size))
        upsampling.write(out, peak)
        ctx.save_for_backward(maps, tags, peak)
        ctx.size, ctx.convention = size, convention
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient of the maps."""
        maps, tags, peak = ctx.saved_tensors
        upsampling = Upsampling(_flat(maps), _kept(tags), ctx.size, ctx.convention)
        dense = grad.contiguous().view(-1, 1, *ctx.size)
        return upsampling.backward(dense, peak).view(maps.shape), None, None, None


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
    """See `camshaft.kernels.normalize.reference.accumulate`; total is contiguous."""
    upsampling = Upsampling(_flat(maps), _kept(tags), (total.shape[2], total.shape[3]), convention)
    upsampling.write(total, upsampling.peak() if divide else None, flipped=flipped, reduction=reduction)


def _flat(maps: Tensor) -> Tensor:
    return maps.contiguous().view(-1, *maps.shape[2:])


def _kept(tags: Tensor | None) -> Tensor | None:
    return None if tags is None else tags.to(torch.float32).contiguous().view(-1)


def _tile(width: int) -> tuple[int, int]:
    """Rows and columns of an output tile of 1024 pixels."""
    columns = min(128, max(32, _power(width)))
    return 1024 // columns, columns


def _power(n: int) -> int:
    return 1 << (n - 1).bit_length()
