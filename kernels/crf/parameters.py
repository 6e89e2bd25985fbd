"""The settings of the dense CRF, under pydensecrf's names."""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Parameters:
    """Settings of one mean-field inference.

    Attributes:
        iterations: mean-field steps; 0 returns the normalised unary.
        gaussian_sxy: standard deviation of the smoothness kernel, in pixels.
        gaussian_compat: its weight (Potts).
        bilateral_sxy: standard deviation of the appearance kernel in space, in pixels.
        bilateral_srgb: its standard deviation in colour, in steps of 0..255.
        bilateral_compat: its weight (Potts).
        clip: probabilities are clipped to [clip, 1] before the logarithm, and not normalised again.

    Raises:
        ValueError: a setting is out of range.
    """

    iterations: int = 10
    gaussian_sxy: float = 3.0
    gaussian_compat: float = 3.0
    bilateral_sxy: float = 80.0
    bilateral_srgb: float = 13.0
    bilateral_compat: float = 10.0
    clip: float = 1e-5

    def __post_init__(self) -> None:
        """Check the ranges."""
        for field in fields(self):
            if not math.isfinite(getattr(self, field.name)):
                raise ValueError(f"crf: {field.name} must be finite, not {getattr(self, field.name)}")
        if self.iterations != int(self.iterations) or self.iterations < 0:
            raise ValueError(f"crf: iterations must be a whole number >= 0, not {self.iterations}")
        for name in ("gaussian_sxy", "bilateral_sxy", "bilateral_srgb"):
            if getattr(self, name) <= 0:
                raise ValueError(f"crf: {name} must be > 0, not {getattr(self, name)}")
        for name in ("gaussian_compat", "bilateral_compat"):
            if getattr(self, name) < 0:
                raise ValueError(f"crf: {name} must be >= 0, not {getattr(self, name)}")
        if not 0 < self.clip < 1:
            raise ValueError(f"crf: clip must lie between 0 and 1, not {self.clip}")
