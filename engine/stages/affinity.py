"""Training AffinityNet on what the CRF at two exponents of the background score is sure of (Ahn and Kwak, psa)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from camshaft.engine.data import Augmentation, ColourJitter
from camshaft.engine.errors import RecipeError
from camshaft.engine.models import AffinityNet, AffinityNetSettings, build_affinity_net
from camshaft.engine.objectives import AffinityObjective, AffinitySettings
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.stages.crf import Crf, confident_masks
from camshaft.engine.stages.fit import TrainingStage, fit, seed_initial_weights
from camshaft.engine.stages.stage import Figures, Input, Product, Stage, StageContext


class Affinity(TrainingStage, AffinityNetSettings, AffinitySettings):
    """AffinityNet on pairs of pixels that the CRF is sure of."""

    kind: Literal["affinity"]
    labels: Annotated[str, Input(Product.CRF)]
    """CRF masks at two α or more: what the smallest α calls a class is that class, what the largest calls background is
    background, and the rest is left out."""
    augmentation: Augmentation = Augmentation(
        flip=0.5, jitter=ColourJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1), crop=448
    )
    """What is done to each image; the default is that of AffinityNet's public code."""

    produces: ClassVar[Product] = Product.AFFINITY

    def build(self, classes: Sequence[str], base: Path, *, pretrained: bool = True) -> AffinityNet:
        """The network, with its first weights or random ones."""
        return build_affinity_net(self.part(AffinityNetSettings), classes, base, pretrained=pretrained)

    def misfits(self, inputs: Mapping[str, Stage]) -> Iterator[str]:
        """CRF masks at one α have no pixels to be sure of."""
        crf = inputs.get(self.labels)
        if isinstance(crf, Crf) and len(crf.alphas) < 2:
            yield (
                f"labels: {crf.id!r} has one α, {crf.alphas[0]:g}, but a second is needed, for what is background for "
                f"sure, such as stages.{crf.id}.alphas=[4,32]"
            )

    def check(self, classes: Sequence[str], base: Path, ranks: Ranks) -> None:
        """As every training stage, and see that an image has pairs at all."""
        super().check(classes, base, ranks)
        size = self.augmentation.fixed_size
        reach = self.radius - 1
        least = (reach + 1, 2 * reach + 1) if self.border == "psa" else (1, 2)
        if size is not None and any(-(-side // self.stride) < cells for side, cells in zip(size, least, strict=True)):
            raise RecipeError(
                f"augmentation: images of {size[0]}×{size[1]} pixels have no pair of radius {self.radius} at stride "
                f"{self.stride}; crops of {least[1] * self.stride} do"
            )

    def run(self, context: StageContext) -> Figures:
        """Train on all images of the train split; those without tags are all background."""
        seed_initial_weights(context)
        network = self.build(context.data.classes, context.base)
        objective = AffinityObjective(self.part(AffinitySettings), self.stride, align_corners=self.align_corners)
        figures = fit(self, context, network, objective, targets=confident_masks(context, self.labels, "train"))
        for kind in ("background", "foreground", "negative"):
            if figures[f"{kind}_pairs"] == 0:
                context.note(f"no pair was {kind} for sure in the last epoch: affinities have learnt without them")
        return figures
