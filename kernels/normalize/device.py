"""Normalised maps and erased images as Triton kernels.

Maps are (N, h, w), contiguous. An upsampled value u is computed anew wherever it is needed and never stored. The
kernels are launched without fused multiply-adds: u then has the same bits in all of them, so that "u is the maximum" in
the backward pass finds the pixels that the forward pass found.

Flags: RELU_FIRST, ReLU before upsampling rather than after; PEAK_ON_MAP, the maximum is the map's own rather than that
of its upsampled form; ALIGN, align_corners; TAGGED, maps whose tag in kept (N,) is 0 become 0.
"""

import triton.language as tl
from triton.language import tensor

from camshaft.kernels.fused import jit
from camshaft.kernels.normalize.bilinear import along_row, first_output, output, source, tap, upsampled


@jit
def is_kept(kept_ptr: tensor, n: tensor, TAGGED: tl.constexpr) -> tensor:
    """Whether map n is kept."""
    tag = tl.load(kept_ptr + n) if TAGGED else tl.full([], 1, tl.float32)
    return tag != 0


@jit
def peak_kernel(
    maps_ptr: tensor, kept_ptr: tensor, peak_ptr: tensor,
    h: tensor, w: tensor, H: tensor, W: tensor, scale_y: tensor, scale_x: tensor,
    RELU_FIRST: tl.constexpr, PEAK_ON_MAP: tl.constexpr, ALIGN: tl.constexpr, TAGGED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """The maximum of each map's ReLU, or of its upsampled form's, float32 (N,); 0 for a map that is not kept.

    Between four source pixels u is bilinear, so that its maximum over the output pixels there lies at the outermost of
    them. It is enough to look at the three output rows and columns around each source row's and column's place.
    """
    n = tl.program_id(0)
    map_ptr = maps_ptr + n.to(tl.int64) * h * w
    top = tl.zeros([ROWS, COLUMNS], tl.float32)
    points_y = h if PEAK_ON_MAP else 3 * h
    points_x = w if PEAK_ON_MAP else 3 * w
    if is_kept(kept_ptr, n, TAGGED):
        for y0 in range(0, points_y, ROWS):
            for x0 in range(0, points_x, COLUMNS):
                j = y0 + tl.arange(0, ROWS)[:, None]
                i = x0 + tl.arange(0, COLUMNS)[None, :]
                inside = (j < points_y) & (i < points_x)
                if PEAK_ON_MAP:
                    value = tap(map_ptr, j * w + i, inside, True)
                else:
                    y = tl.floor(output(j // 3, H, scale_y, ALIGN) + 0.5).to(tl.int32) + j % 3 - 1
                    x = tl.floor(output(i // 3, W, scale_x, ALIGN) + 0.5).to(tl.int32) + i % 3 - 1
                    y = tl.minimum(tl.maximum(y, 0), H - 1)
                    x = tl.minimum(tl.maximum(x, 0), W - 1)
                    value = upsampled(map_ptr, y, x, inside, h, w, scale_y, scale_x, RELU_FIRST, ALIGN)
                top = tl.maximum(top, tl.where(inside, value, 0.0))
    tl.store(peak_ptr + n, tl.max(tl.max(top, 1), 0))


@jit
def normalize_kernel(
    maps_ptr: tensor, kept_ptr: tensor, peak_ptr: tensor, peak_stride: tensor, eps: tensor, out_ptr: tensor,
    h: tensor, w: tensor, H: tensor, W: tensor, scale_y: tensor, scale_x: tensor,
    RELU_FIRST: tl.constexpr, ALIGN: tl.constexpr, TAGGED: tl.constexpr,
    DIVIDE: tl.constexpr, FLIPPED: tl.constexpr, REDUCTION: tl.constexpr,
    BANDS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """relu(u) / (peak + eps) into out (N, H, W), contiguous; or REDUCTION 1: added to it, 2: the larger of both.

    A program writes BANDS bands of output rows; those of a band lie between the same two source rows, which are
    interpolated along x once.
    """
    n = tl.program_id(0)
    map_ptr = maps_ptr + n.to(tl.int64) * h * w
    x = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    inside_x = x < W
    # a mirrored map is read from the right and written from the left
    left, right, across = source(W - 1 - x if FLIPPED else x, w, scale_x, ALIGN)
    factor = tl.where(is_kept(kept_ptr, n, TAGGED), 1.0, 0.0)
    if DIVIDE:
        factor = tl.div_rn(factor, tl.load(peak_ptr + n * peak_stride) + eps)
    for band in range(BANDS):
        row = tl.program_id(1) * BANDS + band
        inside_row = x < tl.where(row < h, W, 0)
        upper = along_row(map_ptr, row, left, right, across, inside_row, w, RELU_FIRST)
        lower = along_row(map_ptr, tl.minimum(row + 1, h - 1), left, right, across, inside_row, w, RELU_FIRST)
        stop = first_output(row + 1, h, H, scale_y, ALIGN)
        for start in range(first_output(row, h, H, scale_y, ALIGN), stop, ROWS):
            y = start + tl.arange(0, ROWS)[:, None]
            down = source(y, h, scale_y, ALIGN)[2]
            u = (1 - down) * upper + down * lower
            value = tl.maximum(u, 0.0, propagate_nan=tl.PropagateNan.ALL) * factor
            inside = (y < stop) & inside_x
            out = out_ptr + n.to(tl.int64) * H * W + y * W + x
            if REDUCTION == 1:
                value += tl.load(out, inside, other=0.0).to(tl.float32)
            if REDUCTION == 2:
                old = tl.load(out, inside, other=0.0).to(tl.float32)
                value = tl.maximum(old, value, propagate_nan=tl.PropagateNan.ALL)
            tl.store(out, value.to(out_ptr.dtype.element_ty), inside)


@jit
def erase_kernel(
    maps_ptr: tensor, peak_ptr: tensor, peak_stride: tensor, eps: tensor, image_ptr: tensor, out_ptr: tensor,
    h: tensor, w: tensor, H: tensor, W: tensor, scale_y: tensor, scale_x: tensor,
    stride_b: tensor, stride_a: tensor, stride_y: tensor, stride_x: tensor,
    RELU_FIRST: tl.constexpr, ALIGN: tl.constexpr, COLOURS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """image · (1 − M) into out, both (N, COLOURS, H, W) with the same strides; a program writes one band of rows."""
    n = tl.program_id(0).to(tl.int64)
    map_ptr = maps_ptr + n * h * w
    row = tl.program_id(1)
    x = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    inside_x = x < W
    left, right, across = source(x, w, scale_x, ALIGN)
    upper = along_row(map_ptr, row, left, right, across, inside_x, w, RELU_FIRST)
    lower = along_row(map_ptr, tl.minimum(row + 1, h - 1), left, right, across, inside_x, w, RELU_FIRST)
    factor = tl.div_rn(1.0, tl.load(peak_ptr + n * peak_stride) + eps)
    stop = first_output(row + 1, h, H, scale_y, ALIGN)
    for start in range(first_output(row, h, H, scale_y, ALIGN), stop, ROWS):
        y = start + tl.arange(0, ROWS)[:, None]
        down = source(y, h, scale_y, ALIGN)[2]
        u = (1 - down) * upper + down * lower
        rest = 1 - tl.maximum(u, 0.0, propagate_nan=tl.PropagateNan.ALL) * factor
        inside = (y < stop) & inside_x
        place = n * stride_b + y * stride_y + x * stride_x
        for a in tl.static_range(COLOURS):
            value = tl.load(image_ptr + place + a * stride_a, inside, other=0.0).to(tl.float32)
            tl.store(out_ptr + place + a * stride_a, (value * rest).to(out_ptr.dtype.element_ty), inside)
