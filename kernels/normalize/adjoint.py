"""The backward pass of normalising and erasing as Triton kernels; flags as in `camshaft.kernels.normalize.device`."""

import triton.language as tl
from triton.language import tensor

from camshaft.kernels.fused import jit
from camshaft.kernels.normalize.bilinear import gather_columns, gather_rows, source, span, tap, upsampled
from camshaft.kernels.normalize.device import is_kept


@jit
def _incoming(
    grad_ptr: tensor, image_ptr: tensor, place: tensor, stride_a: tensor, inside: tensor, COLOURS: tl.constexpr
) -> tensor:
    """The gradient of the normalised map at these pixels: grad itself, or what erasing (COLOURS > 0) makes of it."""
    if COLOURS == 0:
        value = tl.load(grad_ptr + place, inside, other=0.0).to(tl.float32)
    else:
        value = tl.zeros(place.shape, tl.float32)
        for a in tl.static_range(COLOURS):
            grad = tl.load(grad_ptr + place + a * stride_a, inside, other=0.0).to(tl.float32)
            value -= grad * tl.load(image_ptr + place + a * stride_a, inside, other=0.0).to(tl.float32)
    return value


@jit
def adjoint_kernel(
    maps_ptr: tensor, kept_ptr: tensor, peak_ptr: tensor, peak_stride: tensor, grad_ptr: tensor, image_ptr: tensor,
    direct_ptr: tensor, tied_ptr: tensor, sums_ptr: tensor,
    N: tensor, step: tensor, h: tensor, w: tensor, H: tensor, W: tensor, scale_y: tensor, scale_x: tensor,
    stride_b: tensor, stride_a: tensor, stride_y: tensor, stride_x: tensor,
    RELU_FIRST: tl.constexpr, PEAK_ON_MAP: tl.constexpr, ALIGN: tl.constexpr, TAGGED: tl.constexpr,
    COLOURS: tl.constexpr,
    OWN_ROWS: tl.constexpr, OWN_COLUMNS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Read the incoming gradient v once, and bring what the gradient of the maps consists of to the source pixels.

    A program owns OWN_ROWS × step source pixels (step ≤ OWN_COLUMNS) and gathers from the outputs that they have weight
    in: the adjoint of upsampling without atomics. With U the upsampling and P the maximum it writes

        direct (N, h, w) = Uᵀ(v·[u > 0]),   tied (N, h, w) = Uᵀ([u = P]·[u > 0]) (not if PEAK_ON_MAP),
        sums (tiles, 2, N) = Σ v·relu(u) and the number of values equal to P, over what the program owns.
    """
    n = tl.program_id(0)
    tiles_x = tl.cdiv(w, step)
    tile = tl.program_id(1)
    first_row = (tile // tiles_x) * OWN_ROWS
    first_column = (tile % tiles_x) * step
    own_y = first_row + tl.arange(0, OWN_ROWS)
    own_x = first_column + tl.arange(0, OWN_COLUMNS)
    map_ptr = maps_ptr + n.to(tl.int64) * h * w
    peak = tl.load(peak_ptr + n * peak_stride)
    start_y, stop_y = span(first_row, OWN_ROWS, h, H, scale_y, ALIGN)
    start_x, stop_x = span(first_column, step, w, W, scale_x, ALIGN)
    direct = tl.zeros([OWN_ROWS, OWN_COLUMNS], tl.float32)
    tied = tl.zeros([OWN_ROWS, OWN_COLUMNS], tl.float32)
    slope = tl.zeros([ROWS, COLUMNS], tl.float32)
    count = tl.zeros([ROWS, COLUMNS], tl.float32)
    if is_kept(kept_ptr, n, TAGGED):
        for x0 in range(start_x, stop_x, COLUMNS):
            x = x0 + tl.arange(0, COLUMNS)[None, :]
            left, right, across = source(x, w, scale_x, ALIGN)
            mine_x = (x < stop_x) & (left >= first_column) & (left < first_column + step)
            rows_direct = tl.zeros([OWN_ROWS, COLUMNS], tl.float32)
            rows_tied = tl.zeros([OWN_ROWS, COLUMNS], tl.float32)
            for y0 in range(start_y, stop_y, ROWS):
                y = y0 + tl.arange(0, ROWS)[:, None]
                inside = (y < stop_y) & (x < stop_x)
                upper, lower, down = source(y, h, scale_y, ALIGN)
                u = upsampled(map_ptr, y, x, inside, h, w, scale_y, scale_x, RELU_FIRST, ALIGN)
                place = n.to(tl.int64) * stride_b + y * stride_y + x * stride_x
                v = _incoming(grad_ptr, image_ptr, place, stride_a, inside, COLOURS)
                mine = inside & mine_x & (upper >= first_row) & (upper < first_row + OWN_ROWS)
                slope += tl.where(mine, v * tl.maximum(u, 0.0), 0.0)
                rows_direct += gather_rows(tl.where(u > 0, v, 0.0), own_y, upper, lower, down)
                if not PEAK_ON_MAP:
                    top = inside & (tl.maximum(u, 0.0) == peak)
                    count += tl.where(mine & top, 1.0, 0.0)
                    rows_tied += gather_rows(tl.where(top & (u > 0), 1.0, 0.0), own_y, upper, lower, down)
            direct += gather_columns(rows_direct, own_x, left, right, across)
            # ties are few: most programs find none
            if not PEAK_ON_MAP and tl.max(tl.max(rows_tied, 1), 0) > 0:
                tied += gather_columns(rows_tied, own_x, left, right, across)
    owned = (own_y < h)[:, None] & ((own_x < w) & (own_x < first_column + step))[None, :]
    out = n.to(tl.int64) * h * w + own_y[:, None] * w + own_x[None, :]
    tl.store(direct_ptr + out, direct, owned)
    number = tl.sum(tl.sum(count, 1), 0)
    if PEAK_ON_MAP:
        value = tap(map_ptr, own_y[:, None] * w + own_x[None, :], owned, True)
        number = tl.sum(tl.sum(tl.where(owned & (value == peak), 1.0, 0.0), 1), 0)
        number = tl.where(is_kept(kept_ptr, n, TAGGED), number, 0.0)
    else:
        tl.store(tied_ptr + out, tied, owned)
    tl.store(sums_ptr + tile * 2 * N + n, tl.sum(tl.sum(slope, 1), 0))
    tl.store(sums_ptr + (tile * 2 + 1) * N + n, number)


@jit
def finish_kernel(
    maps_ptr: tensor, kept_ptr: tensor, peak_ptr: tensor, peak_stride: tensor, eps: tensor,
    direct_ptr: tensor, tied_ptr: tensor, totals_ptr: tensor, N: tensor, grad_ptr: tensor, pixels: tensor,
    RELU_FIRST: tl.constexpr, PEAK_ON_MAP: tl.constexpr, TAGGED: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """The gradient of the maps from the parts of `adjoint_kernel`, its sums added up as totals (2, N).

    The quotient r / (P + eps) passes v / (P + eps) to r and −Σ v·r / (P + eps)² to P, shared by the values equal to P.
    """
    n = tl.program_id(0)
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < pixels
    place = n.to(tl.int64) * pixels + pixel
    peak = tl.load(peak_ptr + n * peak_stride)
    divisor = peak + eps
    to_peak = -tl.load(totals_ptr + n * peak_stride) / (divisor * divisor)
    share = to_peak / tl.maximum(tl.load(totals_ptr + N + n * peak_stride), 1.0)
    share = tl.where(is_kept(kept_ptr, n, TAGGED), share, 0.0)
    value = tl.load(maps_ptr + place, inside, other=0.0).to(tl.float32)
    if PEAK_ON_MAP:
        tied = tl.where((value == peak) & (value > 0), 1.0, 0.0)
    else:
        tied = tl.load(tied_ptr + place, inside, other=0.0)
    grad = tl.div_rn(tl.load(direct_ptr + place, inside, other=0.0), divisor) + share * tied
    if RELU_FIRST:
        grad = tl.where(value > 0, grad, 0.0)
    tl.store(grad_ptr + place, grad.to(grad_ptr.dtype.element_ty), inside)
