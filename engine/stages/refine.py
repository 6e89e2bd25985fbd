"""Training the refinement network: it learns the maps of a classifier with suppression and improves on them (DRS†)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import nn

from camshaft.engine.data.loader import Targets
from camshaft.engine.models import Classifier, ClassifierSettings, MultiplierSettings, build_classifier
from camshaft.engine.models.parameters import new_names
from camshaft.engine.objectives import RegressionObjective, RegressionSettings
from camshaft.engine.stages import seeds
from camshaft.engine.stages.fit import TrainingStage, fit, seed_initial_weights
from camshaft.engine.stages.map_stores import open_maps
from camshaft.engine.stages.stage import Figures, Input, Product, StageContext
from camshaft.engine.stores import MapStore
from camshaft.engine.training.settings import Adam, Optimizer, Schedule, StepSchedule

NEW_LAYER_STD = 0.01
"""Standard deviation of the new layers' first weights, as in the authors' code; their biases begin at 0. The last layer
has no bias here, as in every classifier; the code has one."""


class Refine(TrainingStage, RegressionSettings):
    """Regression of stored maps by a classifier's network without suppression (DRS, "Localization Map Refinement
    Learning"). Defaults are the paper's."""

    kind: Literal["refine"]
    maps: Annotated[str, Input(Product.MAPS)]
    """The maps to learn, of the train split."""
    batch_size: int = Field(default=5, ge=1)
    """Images to an optimiser step, over all ranks and accumulated micro-batches together."""
    optimizer: Optimizer = Adam(kind="adam", lr=1e-4)
    """What turns gradients into steps."""
    schedule: Schedule = StepSchedule(kind="steps", at=(5, 10))
    """How the learning rate changes; the authors' script trains for 30 epochs and divides by ten at 10 and 20."""
    multipliers: MultiplierSettings = MultiplierSettings(pretrained_biases=1, new_weights=1, new_biases=1)
    """Learning rates of pretrained and new layers, relative to the optimiser's: all alike."""

    produces: ClassVar[Product] = Product.REFINER

    def build(self, classes: Sequence[str], base: Path, *, pretrained: bool = True) -> Classifier:
        """The network, with its first weights or random ones."""
        network = build_classifier(ClassifierSettings(backbone=self.backbone), classes, base, pretrained=pretrained)
        parameters = dict(network.named_parameters())
        for name in sorted(new_names(network) & parameters.keys()):
            if name.endswith(".bias"):
                nn.init.zeros_(parameters[name])
            else:
                nn.init.normal_(parameters[name], std=NEW_LAYER_STD)
        return network

    def run(self, context: StageContext) -> Figures:
        """Train on all images of the train split; in those without tags every map should be 0."""
        seed_initial_weights(context)
        network = self.build(context.data.classes, context.base)
        store = open_maps(context, self.maps, "train")
        objective = RegressionObjective(self.part(RegressionSettings))
        return fit(self, context, network, objective, targets=dense_maps(store))


def dense_maps(store: MapStore) -> Targets:
    """From an id to its maps at the image's size, float32 (C, H, W): 0 for the classes that its tags don't name.

    At that size pixels are pixels, whether the store's grid is aligned at the corners or not, so that crops, flips and
    scaling move image and maps alike.
    """

    def of(image_id: str) -> np.ndarray:
        maps, present = seeds.of_image(store, image_id)
        dense = np.zeros((len(store.classes), *maps.shape[1:]), np.float32)
        dense[present] = maps
        return dense

    return of
