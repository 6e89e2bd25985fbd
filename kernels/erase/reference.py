"""The definition of erasing by a class activation map, in plain torch.

Kweon, Yoon, Kim, Park, Yoon: "Unlocking the Potential of Ordinary Classifier: Class-specific Adversarial Erasing
Framework for Weakly Supervised Semantic Segmentation", ICCV 2021, Eqs. 2, 3 and 5.
Shapes: B images, C classes, maps of h × w at the network's stride, images of H × W.
"""

import torch
from torch import Tensor

from camshaft.kernels.normalize.reference import Convention, normalize


def erase(image: Tensor, chosen: Tensor, convention: Convention) -> Tensor:
    """image (B, 3, H, W) · (1 − M), M the normalised and upsampled map chosen (B, h, w); Eq. 3.

    The mask is not detached: the gradient reaches the maps through it.
    """
    mask = normalize(chosen[:, None], None, (image.shape[2], image.shape[3]), convention)
    return image * (1 - mask).to(image.dtype)


def erase_all(image: Tensor, maps: Tensor, tags: Tensor, convention: Convention) -> Tensor:
    """Class-agnostic erasing: M is the pixelwise maximum over the classes present of maps (B, C, h, w); Eq. 5."""
    mask = normalize(maps, tags, (image.shape[2], image.shape[3]), convention).amax(1, keepdim=True)
    return image * (1 - mask).to(image.dtype)


def choose_map(maps: Tensor, target: Tensor) -> Tensor:
    """The map (B, h, w) of the class target (B,) out of maps (B, C, h, w); zeros where target is −1."""
    index = target.clamp_min(0)[:, None, None, None].expand(-1, 1, *maps.shape[2:])
    return torch.where((target >= 0)[:, None, None], maps.gather(1, index)[:, 0], 0)


def sample_target(tags: Tensor, draw: Tensor) -> Tensor:
    """The class (B,) that draw (B,), in [0, 1), picks out of the n classes present in tags (B, C): number ⌊draw · n⌋.

    −1 where no class is present.
    """
    present = tags > 0
    rank = present.cumsum(1)
    count = rank[:, -1]
    number = (draw * count).long().clamp_max(count - 1)
    picked = present & (rank == number[:, None] + 1)
    return torch.where(count > 0, picked.int().argmax(1), -1)
