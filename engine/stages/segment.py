"""Training a segmentation network on pseudo labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from camshaft.engine.models import Segmenter, SegmenterSettings, build_segmenter
from camshaft.engine.objectives import SegmentationObjective, SegmentationSettings
from camshaft.engine.stages.fit import (
    TrainingStage,
    fit,
    seed_initial_weights,
)
from camshaft.engine.stages.per_image import open_masks
from camshaft.engine.stages.stage import Figures, Input, Product, StageContext, Supervision


class Segment(TrainingStage, SegmenterSettings, SegmentationSettings):
    """DeepLab on pseudo labels; pixels that they ignore take no part."""

    kind: Literal["segment"]
    labels: Annotated[str, Input(Product.MASKS)]
    """The pseudo labels."""

    produces: ClassVar[Product] = Product.SEGMENTER

    def supervision(self) -> frozenset[Supervision]:
        """What the first weights learnt from, and tags where the network's own classes are taken among them."""
        own = super().supervision()
        return own | {Supervision.TAGS} if self.self_training else own

    def build(self, classes: Sequence[str], base: Path, *, pretrained: bool = True) -> Segmenter:
        """The network, with its first weights or random ones."""
        return build_segmenter(self.part(SegmenterSettings), classes, base, pretrained=pretrained)

    def run(self, context: StageContext) -> Figures:
        """Train on all images of the train split; those without tags are all background."""
        seed_initial_weights(context)
        network = self.build(context.data.classes, context.base)
        masks = open_masks(context, context.inputs[self.labels].folder / "train", "train")
        loss = self.part(SegmentationSettings)
        return fit(self, context, network, SegmentationObjective(loss, network.stride), targets=masks.read)
