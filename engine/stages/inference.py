"""Inference of whole images, several of one size at a time, over scales and flips."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from pydantic import Field
from torch import Tensor

from camshaft.engine.data import DataSet, Normalization
from camshaft.engine.models import Classifier, Segmenter
from camshaft.engine.models.scales import scaled_size
from camshaft.engine.recipe.settings import Settings, runtime_field
from camshaft.engine.runtime.precision import Arithmetic, autocast

Scale = Annotated[float, Field(gt=0, le=4)]


class Passes(Settings):
    """Which versions of an image a network sees at inference."""

    scales: tuple[Scale, ...] = Field((0.5, 1.0, 1.5, 2.0), min_length=1)
    """Sizes of the image, relative to its own."""
    flip: bool = True
    """Infer each scale mirrored too."""
    align_corners: bool = True
    """Scaled sides are whole strides plus one, so that features stand on every stride-th pixel from corner to corner
    (DeepLab's way; DRS's code aligns corners, too, but of whole strides); false: sides as they come, features taken for
    areas (OC-CSE's code), which shifts maps by up to half a stride."""
    batch_size: int = runtime_field(8, ge=1)
    """Images of one size that are inferred together."""


def load(data: DataSet, ids: Sequence[str], normalization: Normalization, device: torch.device) -> Tensor:
    """Images of one size as a normalised float32 batch (B, 3, H, W), channels last; decoded side by side."""
    with ThreadPoolExecutor(min(4, len(ids)), "decode") as pool:
        images = np.stack(list(pool.map(data.image, ids)))
    batch = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div_(255)
    mean = torch.tensor(normalization.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(normalization.std, device=device).view(1, 3, 1, 1)
    return ((batch - mean) / std).contiguous(memory_format=torch.channels_last)


def outputs(
    network: Classifier | Segmenter,
    images: Tensor,
    passes: Passes,
    arithmetic: Arithmetic,
    *,
    square: int | None = None,
) -> Iterator[tuple[Tensor, bool]]:
    """The network's output for each scale and flip: float32 (B, C, h, w), and whether the images were mirrored.

    Scaled images are made by antialiased bicubic interpolation of the normalised ones (OC-CSE's code scales bicubically
    before it normalises, DRS's bilinearly after). With `square`, scales are
    relative to a square of that side, to which images are stretched, instead of to their own size.
    """
    height, width = images.shape[2:]
    at_one = (height, width) if square is None else (square, square)
    for scale in passes.scales:
        size = scaled_size(at_one, scale, network.stride if passes.align_corners else None)
        scaled = images
        if size != (height, width):
            scaled = F.interpolate(images, size=size, mode="bicubic", align_corners=False, antialias=True)
        for mirrored in (False, True) if passes.flip else (False,):
            seen = scaled.flip(3) if mirrored else scaled
            with torch.inference_mode(), autocast(arithmetic, images.device):
                output = network(seen.contiguous(memory_format=torch.channels_last))
            yield output.float(), mirrored
