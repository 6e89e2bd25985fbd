"""Training a segmentation network on pseudo labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch

from camshaft.engine.models import SegmenterSettings, build_segmenter
from camshaft.engine.objectives import SegmentationObjective, SegmentationSettings
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.stages.fit import (
    TrainingStage,
    check_training,
    fit,
    seed_initial_weights,
    weights_files,
    weights_supervision,
)
from camshaft.engine.stages.stage import Figures, Input, Product, StageContext, Supervision
from camshaft.engine.stores import MaskFolder


class Segment(TrainingStage, SegmenterSettings, SegmentationSettings):
    """DeepLab on pseudo labels; pixels that they ignore take no part."""

    kind: Literal["segment"]
    labels: Annotated[str, Input(Product.MASKS)]
    """The pseudo labels."""

    produces: ClassVar[Product] = Product.SEGMENTER

    def supervision(self) -> frozenset[Supervision]:
        """What the first weights learnt from; the labels' own supervision comes with them."""
        return weights_supervision(self.backbone.weights)

    def external_files(self, base: Path) -> tuple[Path, ...]:
        """The pretrained weights."""
        return weights_files(self.backbone, base)

    def check(self, classes: Sequence[str], base: Path, ranks: Ranks) -> None:
        """Look for the weights, and build the network without them or any memory."""
        check_training(self, self.backbone, base, ranks)
        with torch.device("meta"):
            build_segmenter(self.part(SegmenterSettings), classes, base, pretrained=False)

    def run(self, context: StageContext) -> Figures:
        """Train on all images of the train split; those without tags are all background."""
        seed_initial_weights(context)
        settings = self.part(SegmenterSettings)
        network = build_segmenter(settings, context.data.classes, context.base)
        masks = MaskFolder.open(context.inputs[self.labels].folder / "train")
        loss = self.part(SegmentationSettings)
        return fit(self, context, network, SegmentationObjective(loss, network.stride), targets=masks.read)
