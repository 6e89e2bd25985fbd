"""Pseudo labels from object cues and background cues, of which the second come from saliency maps (DRS).

Kim, Han and Kim, "Discriminative Region Suppression for Weakly-Supervised Semantic Segmentation", AAAI 2021,
"Weakly-Supervised Semantic Segmentation": an object cue is a map above α, a background cue a saliency below β; pixels
with neither are ignored. What the paper leaves open is as in its authors' code: of several object cues the strongest
map counts, and a background cue goes before an object cue.
"""

from typing import Literal

import numpy as np
from pydantic import Field

from camshaft.engine.data import VOID
from camshaft.engine.recipe.settings import Settings
from camshaft.engine.stages import seeds

SURE_CHANNELS = 2
"""So many classes may be sure of a pixel, the background among them; with more it is ignored."""


class BackgroundCues(Settings):
    """Background cues from saliency maps, and what happens where cues contradict each other."""

    beta: float = Field(0.06, gt=0, le=1)
    """β: pixels whose saliency, in 0 … 1, is below it are background cues. The paper has 0.06; its code takes 8-bit
    values up to 50, for instance 0.198."""
    conflict: Literal["background", "object", "ignore"] = "background"
    """What a pixel becomes that is an object cue and a background cue; the paper does not say, its code has
    background."""
    sure: float | None = Field(None, gt=0, lt=1)
    """Ignore pixels where more than two of the maps and of the background cue (which counts as 1) are above this value;
    null: none. The code has 0.9, the paper nothing."""


def cue_labels(
    maps: np.ndarray, classes: np.ndarray, saliency: np.ndarray, alpha: float, cues: BackgroundCues
) -> np.ndarray:
    """The pseudo labels of one image.

    Args:
        maps: float32 (K, H, W) in [0, 1].
        classes: (K,) class indices from 0.
        saliency: uint8 (H, W), 0 … 255.
        alpha: α, above which a map is an object cue.
        cues: β and the rules.

    Returns:
        uint8 (H, W): 0 background, class index + 1 otherwise, 255 ignored.
    """
    strongest = seeds.to_labels(seeds.with_background(alpha, maps), classes)
    is_object, is_background = strongest > 0, saliency < cues.beta * 255
    labels = np.where(is_object, strongest, np.where(is_background, 0, VOID)).astype(np.uint8)
    if cues.conflict != "object":
        labels[is_object & is_background] = 0 if cues.conflict == "background" else VOID
    if cues.sure is not None:
        sure = (maps > max(cues.sure, alpha)).sum(0) + is_background
        labels[sure > SURE_CHANNELS] = VOID
    return labels
