"""Training a classifier on image tags: the ordinary classifier, or one with discriminative region suppression."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from camshaft.engine.models import Classifier, ClassifierSettings, build_classifier
from camshaft.engine.objectives import TagsObjective
from camshaft.engine.stages.fit import (
    TrainingStage,
    fit,
    seed_initial_weights,
)
from camshaft.engine.stages.stage import Figures, Product, StageContext, Supervision


class Classify(TrainingStage, ClassifierSettings):
    """Multi-label classification from image tags (OC-CSE eq. 1; DRS, "Observation")."""

    kind: Literal["classify"]

    produces: ClassVar[Product] = Product.CLASSIFIER

    def supervision(self) -> frozenset[Supervision]:
        """Tags, and what the first weights learnt from."""
        return super().supervision() | {Supervision.TAGS}

    def build(self, classes: Sequence[str], base: Path, *, pretrained: bool = True) -> Classifier:
        """The network, with its first weights or random ones."""
        return build_classifier(self.part(ClassifierSettings), classes, base, pretrained=pretrained)

    def run(self, context: StageContext) -> Figures:
        """Train on all images of the train split, those without tags among them."""
        seed_initial_weights(context)
        network = self.build(context.data.classes, context.base)
        return fit(self, context, network, TagsObjective())
