"""The passes of suppression as Triton kernels.

A program owns PLANES channels of one image (tile axis 0) and walks their pixels, PIXELS at a time (tile axis 1). With
the strides of channels and pixels as arguments one kernel serves both memory formats: whichever stride is 1 decides
which way the loads are coalesced. Two sorts of kernels:

- `suppress_kernel`, `backward_kernel`: a program sees whole planes. Where they fit on chip (ON_CHIP: one tile) memory
  is read once; where they don't, the second walk reads what the first left in the L2 cache.
- `statistics_kernel`, `clamp_kernel`, `overshoot_kernel`, `spread_kernel`: one walk each, the pixels divided into
  SPLITS ranges (program axis 1), for few and large planes and for the controller, whose gate depends on all planes of
  an image. The second walk goes backwards, to find in the L2 cache what the first read last.

Arithmetic is float32; maxima, bounds, sums and shares are float32 (B, 2, K) or, divided, (SPLITS, B, 2, K).
"""

import triton.language as tl
from triton.language import tensor

from camshaft.kernels.fused import jit


@jit
def _positive(x: tensor) -> tensor:
    """relu(x) in float32; NaN stays NaN."""
    return tl.maximum(x.to(tl.float32), 0.0, propagate_nan=tl.PropagateNan.ALL)


@jit
def _rounded(bound: tensor, dtype: tl.constexpr) -> tensor:
    """A bound ≥ 0 rounded to dtype, to nearest even, in float32."""
    # spelt out for bfloat16 because Triton's interpreter truncates where a GPU rounds
    if dtype == tl.bfloat16:
        bits = bound.to(tl.int32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
        result = bits.to(tl.float32, bitcast=True)
    else:
        result = bound.to(dtype).to(tl.float32)
    return result


@jit
def _limited(r: tensor, bound: tensor) -> tensor:
    return tl.minimum(r, bound, propagate_nan=tl.PropagateNan.ALL)


@jit
def _above(r: tensor, bound: tensor) -> tensor:
    """[r > τ], ½ where equal."""
    return tl.where(r > bound, 1.0, tl.where(r == bound, 0.5, 0.0))


@jit
def _spread(x: tensor, grad: tensor, peak: tensor, bound: tensor, at_peak: tensor, at_positive: tensor) -> tensor:
    """dx of `camshaft.kernels.suppress.gradient`, in float32."""
    below = tl.where(x < bound, 1.0, tl.where(x == bound, 0.5, 0.0))
    inner = below * grad + tl.where(x == peak, at_peak, 0.0) + at_positive
    return tl.where(x > 0, inner, 0.0)


@jit
def _own(program: tensor, K: tensor, stride_b: tensor, stride_k: tensor, PLANES: tl.constexpr) -> tensor:
    """This program's image and channels, which of them exist, and where their planes begin, (PLANES, 1)."""
    tiles = tl.cdiv(K, PLANES)
    b = (program // tiles).to(tl.int64)
    k = (program % tiles) * PLANES + tl.arange(0, PLANES)
    return b, k, k < K, (b * stride_b + k.to(tl.int64) * stride_k)[:, None]


@jit
def _walk(start: tensor, stop: tensor, stride_p: tensor, inside_k: tensor, PIXELS: tl.constexpr) -> tensor:
    """Offsets (1, PIXELS) of the pixels from start on within their planes, and which of (PLANES, PIXELS) exist."""
    p = start + tl.arange(0, PIXELS)
    return (p * stride_p)[None, :], inside_k[:, None] & (p < stop)[None, :]


@jit
def suppress_kernel(
    x_ptr: tensor, gate_ptr: tensor, y_ptr: tensor, limits_ptr: tensor,
    K: tensor, P: tensor, stride_b: tensor, stride_k: tensor, stride_p: tensor,
    PLANES: tl.constexpr, PIXELS: tl.constexpr, ON_CHIP: tl.constexpr,
) -> None:  # fmt: skip
    """y = min(relu(x), gate · max) and the limits of whole planes; gate (B, K)."""
    b, k, inside_k, begin = _own(tl.program_id(0), K, stride_b, stride_k, PLANES)
    gate = tl.load(gate_ptr + b * K + k, inside_k, other=0.0)
    if ON_CHIP:
        offset, inside = _walk(0, P, stride_p, inside_k, PIXELS)
        r = _positive(tl.load(x_ptr + begin + offset, inside, other=0.0))
        peak = tl.max(r, 1)
        bound = _rounded(gate * peak, x_ptr.dtype.element_ty)
        tl.store(y_ptr + begin + offset, _limited(r, bound[:, None]).to(y_ptr.dtype.element_ty), inside)
    else:
        tops = tl.zeros([PLANES, PIXELS], tl.float32)
        for start in range(0, P, PIXELS):
            offset, inside = _walk(start, P, stride_p, inside_k, PIXELS)
            x = tl.load(x_ptr + begin + offset, inside, other=0.0, eviction_policy="evict_last")
            tops = tl.maximum(tops, _positive(x))
        peak = tl.max(tops, 1)
        bound = _rounded(gate * peak, x_ptr.dtype.element_ty)
        for start in range(0, P, PIXELS):
            offset, inside = _walk(start, P, stride_p, inside_k, PIXELS)
            r = _positive(tl.load(x_ptr + begin + offset, inside, other=0.0, eviction_policy="evict_first"))
            tl.store(y_ptr + begin + offset, _limited(r, bound[:, None]).to(y_ptr.dtype.element_ty), inside)
    tl.store(limits_ptr + b * 2 * K + k, peak, inside_k)
    tl.store(limits_ptr + (b * 2 + 1) * K + k, bound, inside_k)


@jit
def backward_kernel(
    x_ptr: tensor, grad_ptr: tensor, limits_ptr: tensor, gate_ptr: tensor, dx_ptr: tensor, over_ptr: tensor,
    K: tensor, P: tensor, stride_b: tensor, stride_k: tensor, stride_p: tensor,
    PLANES: tl.constexpr, PIXELS: tl.constexpr, ON_CHIP: tl.constexpr,
) -> None:  # fmt: skip
    """dx and s (B, K) of whole planes, under a gate (B, K) that does not depend on x."""
    b, k, inside_k, begin = _own(tl.program_id(0), K, stride_b, stride_k, PLANES)
    gate = tl.load(gate_ptr + b * K + k, inside_k, other=0.0)
    peak = tl.load(limits_ptr + b * 2 * K + k, inside_k, other=0.0)[:, None]
    bound = tl.load(limits_ptr + (b * 2 + 1) * K + k, inside_k, other=0.0)[:, None]
    if ON_CHIP:
        offset, inside = _walk(0, P, stride_p, inside_k, PIXELS)
        x = tl.load(x_ptr + begin + offset, inside, other=0.0).to(tl.float32)
        grad = tl.load(grad_ptr + begin + offset, inside, other=0.0).to(tl.float32)
        r = _positive(x)
        over = tl.sum(_above(r, bound) * grad, 1)
        ties = tl.sum(tl.where(inside & (r == peak), 1.0, 0.0), 1)
        dx = _spread(x, grad, peak, bound, (over * gate / tl.maximum(ties, 1.0))[:, None], 0.0)
        tl.store(dx_ptr + begin + offset, dx.to(dx_ptr.dtype.element_ty), inside)
    else:
        sums = tl.zeros([PLANES, PIXELS], tl.float32)
        counts = tl.zeros([PLANES, PIXELS], tl.float32)
        for start in range(0, P, PIXELS):
            offset, inside = _walk(start, P, stride_p, inside_k, PIXELS)
            r = _positive(tl.load(x_ptr + begin + offset, inside, other=0.0, eviction_policy="evict_last"))
            grad = tl.load(grad_ptr + begin + offset, inside, other=0.0, eviction_policy="evict_last").to(tl.float32)
            sums += _above(r, bound) * grad
            counts += tl.where(inside & (r == peak), 1.0, 0.0)
        over = tl.sum(sums, 1)
        at_peak = (over * gate / tl.maximum(tl.sum(counts, 1), 1.0))[:, None]
        for start in range(0, P, PIXELS):
            offset, inside = _walk(start, P, stride_p, inside_k, PIXELS)
            x = tl.load(x_ptr + begin + offset, inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
            grad = tl.load(grad_ptr + begin + offset, inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
            dx = _spread(x, grad, peak, bound, at_peak, 0.0)
            tl.store(dx_ptr + begin + offset, dx.to(dx_ptr.dtype.element_ty), inside)
    tl.store(over_ptr + b * K + k, over, inside_k)


@jit
def _range(split: tensor, SPLITS: tensor, P: tensor, PIXELS: tl.constexpr) -> tensor:
    """First and end of this split's pixels, whole tiles of them."""
    pixels = tl.cdiv(tl.cdiv(P, PIXELS), SPLITS) * PIXELS
    return split * pixels, tl.minimum((split + 1) * pixels, P)


@jit
def statistics_kernel(
    x_ptr: tensor, partial_ptr: tensor,
    B: tensor, K: tensor, P: tensor, stride_b: tensor, stride_k: tensor, stride_p: tensor, SPLITS: tensor,
    PLANES: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    """Maximum and sum of relu(x) over each split, into partial (SPLITS, B, 2, K)."""
    b, k, inside_k, begin = _own(tl.program_id(0), K, stride_b, stride_k, PLANES)
    split = tl.program_id(1)
    first, stop = _range(split, SPLITS, P, PIXELS)
    tops = tl.zeros([PLANES, PIXELS], tl.float32)
    sums = tl.zeros([PLANES, PIXELS], tl.float32)
    for start in range(first, stop, PIXELS):
        offset, inside = _walk(start, stop, stride_p, inside_k, PIXELS)
        r = _positive(tl.load(x_ptr + begin + offset, inside, other=0.0, eviction_policy="evict_last"))
        tops = tl.maximum(tops, r)
        sums += r
    out = partial_ptr + (split * B + b) * 2 * K + k
    tl.store(out, tl.max(tops, 1), inside_k)
    tl.store(out + K, tl.sum(sums, 1), inside_k)


@jit
def clamp_kernel(
    x_ptr: tensor, bound_ptr: tensor, y_ptr: tensor,
    K: tensor, P: tensor, stride_b: tensor, stride_k: tensor, stride_p: tensor, SPLITS: tensor,
    PLANES: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    """y = min(relu(x), bound), bound (B, K)."""
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    b, k, inside_k, begin = _own(program, K, stride_b, stride_k, PLANES)
    bound = tl.load(bound_ptr + b * K + k, inside_k, other=0.0)[:, None]
    first, stop = _range(tl.num_programs(1) - 1 - tl.program_id(1), SPLITS, P, PIXELS)
    for start in range(first, stop, PIXELS):
        offset, inside = _walk(start, stop, stride_p, inside_k, PIXELS)
        r = _positive(tl.load(x_ptr + begin + offset, inside, other=0.0, eviction_policy="evict_first"))
        tl.store(y_ptr + begin + offset, _limited(r, bound).to(y_ptr.dtype.element_ty), inside)


@jit
def overshoot_kernel(
    x_ptr: tensor, grad_ptr: tensor, limits_ptr: tensor, partial_ptr: tensor,
    B: tensor, K: tensor, P: tensor, stride_b: tensor, stride_k: tensor, stride_p: tensor, SPLITS: tensor,
    PLANES: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    """The sums s and n over each split, into partial (SPLITS, B, 2, K)."""
    b, k, inside_k, begin = _own(tl.program_id(0), K, stride_b, stride_k, PLANES)
    peak = tl.load(limits_ptr + b * 2 * K + k, inside_k, other=0.0)[:, None]
    bound = tl.load(limits_ptr + (b * 2 + 1) * K + k, inside_k, other=0.0)[:, None]
    split = tl.program_id(1)
    first, stop = _range(split, SPLITS, P, PIXELS)
    sums = tl.zeros([PLANES, PIXELS], tl.float32)
    counts = tl.zeros([PLANES, PIXELS], tl.float32)
    for start in range(first, stop, PIXELS):
        offset, inside = _walk(start, stop, stride_p, inside_k, PIXELS)
        r = _positive(tl.load(x_ptr + begin + offset, inside, other=0.0, eviction_policy="evict_last"))
        grad = tl.load(grad_ptr + begin + offset, inside, other=0.0, eviction_policy="evict_last").to(tl.float32)
        sums += _above(r, bound) * grad
        counts += tl.where(inside & (r == peak), 1.0, 0.0)
    out = partial_ptr + (split * B + b) * 2 * K + k
    tl.store(out, tl.sum(sums, 1), inside_k)
    tl.store(out + K, tl.sum(counts, 1), inside_k)


@jit
def spread_kernel(
    x_ptr: tensor, grad_ptr: tensor, limits_ptr: tensor, shares_ptr: tensor, dx_ptr: tensor,
    K: tensor, P: tensor, stride_b: tensor, stride_k: tensor, stride_p: tensor, SPLITS: tensor,
    PLANES: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    """The gradient dx from the shares (B, 2, K)."""
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    b, k, inside_k, begin = _own(program, K, stride_b, stride_k, PLANES)
    peak = tl.load(limits_ptr + b * 2 * K + k, inside_k, other=0.0)[:, None]
    bound = tl.load(limits_ptr + (b * 2 + 1) * K + k, inside_k, other=0.0)[:, None]
    at_peak = tl.load(shares_ptr + b * 2 * K + k, inside_k, other=0.0)[:, None]
    at_positive = tl.load(shares_ptr + (b * 2 + 1) * K + k, inside_k, other=0.0)[:, None]
    first, stop = _range(tl.num_programs(1) - 1 - tl.program_id(1), SPLITS, P, PIXELS)
    for start in range(first, stop, PIXELS):
        offset, inside = _walk(start, stop, stride_p, inside_k, PIXELS)
        x = tl.load(x_ptr + begin + offset, inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
        grad = tl.load(grad_ptr + begin + offset, inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
        dx = _spread(x, grad, peak, bound, at_peak, at_positive)
        tl.store(dx_ptr + begin + offset, dx.to(dx_ptr.dtype.element_ty), inside)
