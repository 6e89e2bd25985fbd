"""The public functions of erasing: they check, pick an implementation and run it.

Source: Kweon et al., "Unlocking the Potential of Ordinary Classifier: Class-specific Adversarial Erasing Framework for
Weakly Supervised Semantic Segmentation", ICCV 2021.
"""

import torch
from torch import Tensor

from camshaft.kernels.availability import why_not_triton
from camshaft.kernels.choice import choose
from camshaft.kernels.erase import reference
from camshaft.kernels.normalize.operation import checked_convention
from camshaft.kernels.normalize.reference import Maximum, Order


def erase(
    image: Tensor,
    maps: Tensor,
    *,
    target: Tensor | None = None,
    tags: Tensor | None = None,
    align_corners: bool = False,
    eps: float = 1e-5,
    maximum: Maximum = "batch",
    order: Order = "upsample_relu_divide",
    implementation: str = "auto",
) -> Tensor:
    """Erase a class from images: image · (1 − M), M its normalised CAM at the image's size (Eqs. 2 and 3).

    The defaults are OC-CSE's public code; Eq. 2 itself is maximum="map", order="relu_divide_upsample".

    Args:
        image: (B, A, H, W), floating point, normalised; A colour channels.
        maps: (B, h, w): the map that erases each image; or (B, C, h, w) with either `target` or `tags`.
        target: (B,) int64, the class to erase from each image, as `sample_target` draws it; an image whose target is
            −1 stays as it is.
        tags: (B, C), 1 for the classes present: class-agnostic erasing by the pixelwise maximum of their maps (Eq. 5).
        align_corners: as in torch.nn.functional.interpolate.
        eps: added to the maximum, > 0.
        maximum: "batch" for the one maximum of all maps used, "map" for each map's own.
        order: of ReLU, division and upsampling, as in `camshaft.kernels.normalize.normalize`.
        implementation: "triton", "torch" or "auto".

    Returns:
        (B, A, H, W) in image's dtype, differentiable with respect to maps (the mask is not detached) and image.

    Raises:
        ValueError: a shape, dtype or option is none of the above.
    """
    _check(image, maps, target, tags)
    convention = checked_convention("erase", align_corners, eps, maximum, order)
    if tags is not None:
        choose("erase all", implementation, {"triton": "class-agnostic erasing has no kernel", "torch": None})
        return reference.erase_all(image, maps, tags, convention)
    chosen = maps if target is None else reference.choose_map(maps, target)
    if choose("erase", implementation, {"triton": why_not_triton(image, chosen), "torch": None}) == "torch":
        return reference.erase(image, chosen, convention)
    from camshaft.kernels.erase.gpu import Erase  # noqa: PLC0415 - imports Triton, which may be missing

    out: Tensor = Erase.apply(image, chosen, convention)  # type: ignore[no-untyped-call]
    return out


def sample_target(tags: Tensor, *, generator: torch.Generator | None = None, seed: int | None = None) -> Tensor:
    """One of the classes present in each image, uniformly, drawn on tags' device (Sec. 4.2, "target class").

    Args:
        tags: (B, C), > 0 for the classes present.
        generator: of tags' device; or
        seed: for a generator made here. Without either, torch's default generator draws.

    Returns:
        (B,) int64, −1 where an image has no class.

    Raises:
        ValueError: tags is not (B, C), or both generator and seed are given.
    """
    if tags.ndim != 2 or tags.shape[1] == 0:
        raise ValueError(f"sample_target: tags is {tuple(tags.shape)}; it is (B, C) with at least one class")
    if generator is not None and seed is not None:
        raise ValueError("sample_target: both generator and seed are given; one of them is enough")
    if seed is not None:
        generator = torch.Generator(tags.device).manual_seed(seed)
    draw = torch.rand(len(tags), generator=generator, device=tags.device, dtype=torch.float64)
    return reference.sample_target(tags, draw)


def _check(image: Tensor, maps: Tensor, target: Tensor | None, tags: Tensor | None) -> None:
    if image.ndim != 4 or image.shape[2] * image.shape[3] == 0 or not image.is_floating_point():
        raise ValueError(f"erase: image is {tuple(image.shape)} of {image.dtype}; it is (B, A, H, W), floating point")
    images = len(image)
    if maps.ndim not in (3, 4) or len(maps) != images or maps.shape[-1] * maps.shape[-2] == 0:
        raise ValueError(
            f"erase: maps is {tuple(maps.shape)}; for {images} images it is ({images}, h, w) or ({images}, C, h, w)"
        )
    if not maps.is_floating_point():
        raise ValueError(f"erase: maps is {maps.dtype}; it is floating point")
    given = (target is not None) + (tags is not None)
    if given != (maps.ndim == 4):
        raise ValueError(
            f"erase: maps is {tuple(maps.shape)}; (B, h, w) comes alone, (B, C, h, w) with either target or tags"
        )
    if target is not None and (target.shape != (images,) or target.dtype != torch.int64):
        raise ValueError(f"erase: target is {tuple(target.shape)} of {target.dtype}; it is ({images},) of torch.int64")
    if tags is not None and tags.shape != maps.shape[:2]:
        raise ValueError(f"erase: tags is {tuple(tags.shape)}; for maps {tuple(maps.shape)} it is (B, C)")
