"""Localization map refinement learning (DRS†): a network learns to give stored maps directly.

Kim, Han and Kim, "Discriminative Region Suppression for Weakly-Supervised Semantic Segmentation", AAAI 2021,
"Localization Map Refinement Learning".
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate, mse_loss

from camshaft.engine.data.batch import Batch
from camshaft.engine.objectives.objective import Figures, Forward, Moment, Objective
from camshaft.engine.recipe.settings import Settings


class RegressionSettings(Settings):
    """Where stored and predicted maps meet. The defaults are the paper's; `input` and `strongest_only` its code's."""

    resolution: Literal["output", "input"] = "output"
    """output: stored maps are brought to the network's output; input: the network's output is upsampled bilinearly to
    the image's crop."""
    align_corners: bool = True
    """Features stand on every stride-th pixel from corner to corner, which goes with crops of whole strides plus one;
    false: they are areas."""
    strongest_only: bool = False
    """Keep at each pixel only the strongest of the stored maps, the others become 0."""


class RegressionObjective(Objective):
    """Mean squared error between the network's maps and stored maps, over images, classes and pixels.

    The prediction is taken as it is: no ReLU, no bounds, and the maps of classes that an image lacks should be 0.
    """

    def __init__(self, settings: RegressionSettings) -> None:
        """Take the settings."""
        self._settings = settings

    def __call__(self, forward: Forward, batch: Batch, moment: Moment) -> tuple[Tensor, Figures]:
        """See `Objective`; figures: absolute_error, the mean over the same values.

        Raises:
            ValueError: the batch's target is not maps (B, C, H, W) of as many classes as the network has.
        """
        del moment
        maps = forward(batch.image).float()
        target = self._target(batch, maps)
        if self._settings.resolution == "output":
            target = self._at_output(target, (maps.shape[2], maps.shape[3]))
        else:
            size, aligned = target.shape[2:], self._settings.align_corners
            maps = interpolate(maps, size, mode="bilinear", align_corners=aligned)
        return mse_loss(maps, target), {"absolute_error": (maps.detach() - target).abs().mean()}

    def _target(self, batch: Batch, maps: Tensor) -> Tensor:
        """The stored maps at the crop's size, float32 (B, C, H, W)."""
        target = batch.target
        if target is None or target.ndim != 4 or target.shape[1] != maps.shape[1]:
            found = "none" if target is None else tuple(target.shape)
            raise ValueError(f"regression needs maps (B, {maps.shape[1]}, H, W) as the batch's target, not {found}")
        if self._settings.strongest_only:
            return torch.where(target == target.amax(1, keepdim=True), target, 0)
        return target

    def _at_output(self, target: Tensor, size: tuple[int, int]) -> Tensor:
        if self._settings.align_corners:
            return interpolate(target, size, mode="bilinear", align_corners=True)
        return interpolate(target, size, mode="area")
