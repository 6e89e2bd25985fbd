"""The public functions of CAM normalisation: they check, pick an implementation and run it.

Sources: Kim, Han, Kim, "Discriminative Region Suppression", AAAI 2021, Eq. 1; Kweon et al., "Unlocking the Potential of
Ordinary Classifier", ICCV 2021, Eq. 2; the other orders are those of both papers' public code.
"""

from typing import get_args

import torch
from torch import Tensor

from camshaft.kernels.availability import why_not_triton
from camshaft.kernels.choice import choose
from camshaft.kernels.normalize import reference
from camshaft.kernels.normalize.reference import Convention, Maximum, Order, Reduction


def normalize(
    maps: Tensor,
    *,
    tags: Tensor | None = None,
    size: tuple[int, int] | None = None,
    align_corners: bool = False,
    eps: float = 1e-5,
    maximum: Maximum = "map",
    order: Order = "relu_divide_upsample",
    implementation: str = "auto",
) -> Tensor:
    """Class activation maps scaled to 0 … 1: ReLU, / (maximum + eps), bilinear upsampling, × tags; in this order or

    - "relu_divide_upsample": as both papers write it (DRS Eq. 1, OC-CSE Eq. 2);
    - "relu_upsample_divide": as DRS's code does (with align_corners=True);
    - "upsample_relu_divide": as OC-CSE's code does for its erasing mask (with maximum="batch").

    Where `size` is None nothing is upsampled and the orders coincide.

    Args:
        maps: (B, C, h, w), floating point, before the ReLU.
        tags: (B, C), 1 for the classes present and 0 for the others, whose maps become 0; None keeps all.
        size: (H, W) in pixels, or None for (h, w).
        align_corners: as in torch.nn.functional.interpolate.
        eps: added to the maximum, > 0.
        maximum: "map" for each map's own, "batch" for the one maximum of all maps that the tags keep.
        order: see above.
        implementation: "triton", "torch" or "auto".

    Returns:
        (B, C, H, W) in maps' dtype, differentiable with respect to maps, through the maximum too.

    Raises:
        ValueError: a shape, dtype or option is none of the above.
    """
    convention = checked_convention("normalize", align_corners, eps, maximum, order)
    size = _checked(maps, tags, size)
    if choose("normalize", implementation, {"triton": why_not_triton(maps), "torch": None}) == "torch":
        return reference.normalize(maps, tags, size, convention)
    from camshaft.kernels.normalize.gpu import Normalize  # noqa: PLC0415 - imports Triton, which may be missing

    out: Tensor = Normalize.apply(maps, tags, size, convention)  # type: ignore[no-untyped-call]
    return out


@torch.no_grad()
def accumulate(
    total: Tensor,
    maps: Tensor,
    *,
    tags: Tensor | None = None,
    flipped: bool = False,
    reduction: Reduction = "sum",
    divide: bool = False,
    order: Order = "upsample_relu_divide",
    align_corners: bool = False,
    eps: float = 1e-5,
    implementation: str = "auto",
) -> Tensor:
    """Bring the maps of one scale to the size of `total` and add them to it, or keep the larger of both; in place.

    Inference over scales and flips starts from zeros and calls this once a pass. OC-CSE sums undivided maps and divides
    once at the end by `normalize(total)`; DRS takes the maximum of maps that are divided one by one (divide=True,
    order="relu_upsample_divide", align_corners=True).

    Args:
        total: (B, C, H, W), floating point, changed in place.
        maps: (B, C, h, w), floating point, before the ReLU.
        tags: (B, C) or None, as in `normalize`.
        flipped: the maps come from mirrored images and are mirrored back.
        reduction: "sum" or "max".
        divide: divide by each map's (maximum + eps) first.
        order: as in `normalize`; without `divide` only the order of ReLU and upsampling matters.
        align_corners: as in torch.nn.functional.interpolate.
        eps: added to the maximum, > 0.
        implementation: "triton", "torch" or "auto".

    Returns:
        `total` itself. There is no gradient.

    Raises:
        ValueError: a shape, dtype or option is none of the above.
    """
    if total.ndim != 4 or total.shape[:2] != maps.shape[:2] or not total.is_floating_point():
        raise ValueError(
            f"accumulate: total is {tuple(total.shape)} of {total.dtype}; for maps {tuple(maps.shape)} it is "
            f"{(*maps.shape[:2], 'H', 'W')} and floating point"
        )
    convention = checked_convention("accumulate", align_corners, eps, "map", order)
    _checked(maps, tags, (total.shape[2], total.shape[3]))
    if reduction not in get_args(Reduction):
        raise ValueError(f"accumulate: reduction is {reduction!r}; it is one of {', '.join(get_args(Reduction))}")
    run = reference.accumulate
    candidates = {"triton": _why_not_triton_in_place(total, maps), "torch": None}
    if choose("accumulate", implementation, candidates) == "triton":
        from camshaft.kernels.normalize.gpu import accumulate as run  # noqa: PLC0415 - imports Triton
    run(total, maps, tags, convention, divide=divide, flipped=flipped, reduction=reduction)
    return total


def _why_not_triton_in_place(total: Tensor, maps: Tensor) -> str | None:
    return why_not_triton(total, maps) or (None if total.is_contiguous() else "total is not contiguous")


def checked_convention(operation: str, align_corners: bool, eps: float, maximum: Maximum, order: Order) -> Convention:
    """The convention of these options, or a ValueError in the operation's name that says which are right."""
    if not eps > 0:
        raise ValueError(f"{operation}: eps is {eps}; it is above 0")
    if maximum not in get_args(Maximum):
        raise ValueError(f"{operation}: maximum is {maximum!r}; it is one of {', '.join(get_args(Maximum))}")
    if order not in get_args(Order):
        raise ValueError(f"{operation}: order is {order!r}; it is one of {', '.join(get_args(Order))}")
    return Convention(align_corners, eps, maximum, order)


def _checked(maps: Tensor, tags: Tensor | None, size: tuple[int, int] | None) -> tuple[int, int]:
    """The output's size, once maps, tags and size are as documented."""
    if maps.ndim != 4 or maps.shape[2] * maps.shape[3] == 0 or not maps.is_floating_point():
        raise ValueError(
            f"normalize: maps is {tuple(maps.shape)} of {maps.dtype}; it is (B, C, h, w) with at least one pixel, "
            "floating point"
        )
    if tags is not None and tags.shape != maps.shape[:2]:
        raise ValueError(f"normalize: tags is {tuple(tags.shape)}; for maps {tuple(maps.shape)} it is (B, C)")
    if size is None:
        return maps.shape[2], maps.shape[3]
    if min(size) < 1:
        raise ValueError(f"normalize: size is {size}; height and width are at least 1")
    return size
