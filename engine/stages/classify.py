"""Training a classifier on image tags: the ordinary classifier, or one with discriminative region suppression."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch

from camshaft.engine.models import ClassifierSettings, build_classifier
from camshaft.engine.objectives import TagsObjective
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.stages.fit import (
    TrainingStage,
    check_training,
    fit,
    seed_initial_weights,
    weights_files,
    weights_supervision,
)
from camshaft.engine.stages.stage import Figures, Product, StageContext, Supervision


class Classify(TrainingStage, ClassifierSettings):
    """Multi-label classification from image tags (OC-CSE eq. 1; DRS, "Observation")."""

    kind: Literal["classify"]

    produces: ClassVar[Product] = Product.CLASSIFIER

    def supervision(self) -> frozenset[Supervision]:
        """Tags, and what the first weights learnt from."""
        return weights_supervision(self.backbone.weights) | {Supervision.TAGS}

    def external_files(self, base: Path) -> tuple[Path, ...]:
        """The pretrained weights."""
        return weights_files(self.backbone, base)

    def check(self, classes: Sequence[str], base: Path, ranks: Ranks) -> None:
        """Look for the weights, and build the network without them or any memory."""
        check_training(self, self.backbone, base, ranks)
        with torch.device("meta"):
            build_classifier(self.part(ClassifierSettings), classes, base, pretrained=False)

    def run(self, context: StageContext) -> Figures:
        """Train on all images of the train split, those without tags among them."""
        seed_initial_weights(context)
        settings = self.part(ClassifierSettings)
        network = build_classifier(settings, context.data.classes, context.base)
        return fit(self, context, network, TagsObjective())
