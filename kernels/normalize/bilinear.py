"""Bilinear interpolation inside Triton kernels, with torch's conventions and rounding.

Legend: sources are the pixels of a map (h, w), outputs those of its upsampled form (H, W); a scale is that of
torch.nn.functional.interpolate, about h / H; ALIGN is align_corners.
"""

import triton.language as tl
from triton.language import tensor

from camshaft.kernels.fused import jit


@jit
def source(index: tensor, size: tensor, scale: tensor, ALIGN: tl.constexpr) -> tensor:
    """The two source indices of an output index along one axis, and the weight of the second, as torch has them."""
    position = index * scale if ALIGN else tl.maximum((index + 0.5) * scale - 0.5, 0.0)
    low = tl.minimum(position.to(tl.int32), size - 1)
    return low, tl.minimum(low + 1, size - 1), position - low


@jit
def output(index: tensor, outputs: tensor, scale: tensor, ALIGN: tl.constexpr) -> tensor:
    """The output coordinate, a real number in −1 … outputs, at which a source index lies."""
    # a scale of 0, with ALIGN, maps all outputs to source 0
    coordinate = index / tl.maximum(scale, 1e-20) if ALIGN else (index + 0.5) / scale - 0.5
    return tl.minimum(tl.maximum(coordinate, -1.0), outputs * 1.0)


@jit
def tap(map_ptr: tensor, offset: tensor, inside: tensor, RELU_FIRST: tl.constexpr) -> tensor:
    """Values of the map in float32, after the ReLU if that comes first; NaN stays NaN."""
    value = tl.load(map_ptr + offset, inside, other=0.0).to(tl.float32)
    if RELU_FIRST:
        value = tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return value


@jit
def along_row(
    map_ptr: tensor, row: tensor, left: tensor, right: tensor, across: tensor, inside: tensor, w: tensor,
    RELU_FIRST: tl.constexpr,
) -> tensor:  # fmt: skip
    """Source rows interpolated at output columns whose source columns are left and right."""
    value = (1 - across) * tap(map_ptr, row * w + left, inside, RELU_FIRST)
    return value + across * tap(map_ptr, row * w + right, inside, RELU_FIRST)


@jit
def upsampled(
    map_ptr: tensor, y: tensor, x: tensor, inside: tensor,
    h: tensor, w: tensor, scale_y: tensor, scale_x: tensor,
    RELU_FIRST: tl.constexpr, ALIGN: tl.constexpr,
) -> tensor:  # fmt: skip
    """u at output rows y (Y, 1) and columns x (1, X)."""
    top, bottom, down = source(y, h, scale_y, ALIGN)
    left, right, across = source(x, w, scale_x, ALIGN)
    upper = along_row(map_ptr, top, left, right, across, inside, w, RELU_FIRST)
    lower = along_row(map_ptr, bottom, left, right, across, inside, w, RELU_FIRST)
    return (1 - down) * upper + down * lower


@jit
def first_output(index: tensor, size: tensor, outputs: tensor, scale: tensor, ALIGN: tl.constexpr) -> tensor:
    """The first output index whose lower source index is `index` or a later one; all outputs where there is none."""
    first = tl.maximum(tl.floor(output(index, outputs, scale, ALIGN)).to(tl.int32), 0)
    # once for the fraction that floor cut off, once for rounding
    for _ in tl.static_range(2):
        first += tl.where(source(first, size, scale, ALIGN)[0] < index, 1, 0)
    return tl.where(index == 0, 0, tl.where(index >= size, outputs, tl.minimum(first, outputs)))


@jit
def span(first: tensor, count: tensor, size: tensor, outputs: tensor, scale: tensor, ALIGN: tl.constexpr) -> tensor:
    """A range of output indices that holds all that source indices first … first + count − 1 have weight in."""
    start = tl.floor(output(first - 1, outputs, scale, ALIGN)).to(tl.int32)
    stop = tl.ceil(output(first + count, outputs, scale, ALIGN)).to(tl.int32) + 1
    start = tl.where(first == 0, 0, tl.maximum(start, 0))
    return start, tl.where(first + count >= size, outputs, tl.minimum(stop, outputs))


@jit
def weight(index: tensor, low: tensor, high: tensor, part: tensor) -> tensor:
    """The weight of a source index in outputs whose source indices are low and high."""
    return tl.where(low == index, 1 - part, 0.0) + tl.where(high == index, part, 0.0)


@jit
def gather_rows(values: tensor, own: tensor, upper: tensor, lower: tensor, down: tensor) -> tensor:
    """What source rows own (S,) receive from values (Y, X) of output rows: (S, X)."""
    part = weight(own[:, None, None], upper[None, :, :], lower[None, :, :], down[None, :, :])
    return tl.sum(part * values[None, :, :], 1)


@jit
def gather_columns(values: tensor, own: tensor, left: tensor, right: tensor, across: tensor) -> tensor:
    """What source columns own (S,) receive from values (Y, X) of output columns: (Y, S)."""
    part = weight(own[None, :, None], left[None, :, :], right[None, :, :], across[None, :, :])
    return tl.sum(part * values[:, None, :], 2)
