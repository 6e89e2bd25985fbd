"""Training CGNet: a classifier whose maps erase classes under the eyes of the ordinary classifier (OC-CSE)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import model_validator

from camshaft.engine.models import Classifier, ClassifierSettings, build_classifier
from camshaft.engine.objectives import ErasingObjective, ErasingSettings
from camshaft.engine.stages.fit import (
    TrainingStage,
    fit,
    seed_initial_weights,
    tagged_images,
)
from camshaft.engine.stages.networks import open_network
from camshaft.engine.stages.stage import Figures, Input, Product, StageContext, Supervision


class Erase(TrainingStage, ClassifierSettings, ErasingSettings):
    """Class-specific or class-agnostic adversarial erasing (OC-CSE eqs. 2 to 5)."""

    kind: Literal["erase"]
    guide: Annotated[str | None, Input(Product.CLASSIFIER)] = None
    """The ordinary classifier, with which a guide that learns begins; null with guidance: shared, where the network
    guides itself."""

    produces: ClassVar[Product] = Product.CLASSIFIER

    @model_validator(mode="after")
    def _guide_fits_guidance(self) -> "Erase":
        if self.guidance != "shared" and self.guide is None:
            raise ValueError(
                f"guidance: {self.guidance} needs guide, the id of the stage that trains the ordinary classifier"
            )
        if self.guidance == "shared" and self.guide is not None:
            raise ValueError("guidance: shared takes no guide: the network guides itself")
        return self

    def supervision(self) -> frozenset[Supervision]:
        """Tags, and what the first weights learnt from."""
        return super().supervision() | {Supervision.TAGS}

    def build(self, classes: Sequence[str], base: Path, *, pretrained: bool = True) -> Classifier:
        """The network, with its first weights or random ones."""
        return build_classifier(self.part(ClassifierSettings), classes, base, pretrained=pretrained)

    def run(self, context: StageContext) -> Figures:
        """Train on the images of the train split that have a tag: in the others there is nothing to erase."""
        seed_initial_weights(context)
        network = self.build(context.data.classes, context.base)
        erasing = self.part(ErasingSettings)
        guide = None if self.guide is None else open_network(context, self.guide, Classifier)
        return fit(
            self,
            context,
            network,
            ErasingObjective(erasing, guide),
            indices=tagged_images(context),
            companion=guide if self.guidance == "learning" else None,
        )
