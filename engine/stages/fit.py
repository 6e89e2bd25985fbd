"""The frame of every stage that trains a network: images, loader, the one loop, and the network's file."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import model_validator

from camshaft.engine.data import Augmentation, ColourJitter, Loader, Resize
from camshaft.engine.data.loader import Targets
from camshaft.engine.errors import TrainingError
from camshaft.engine.models import (
    AffinityNet,
    BackboneSettings,
    Classifier,
    MultiplierSettings,
    Segmenter,
    parameter_groups,
    save_network,
    weights_file,
)
from camshaft.engine.models.imported import ImportedBackboneSettings
from camshaft.engine.objectives import Objective
from camshaft.engine.recipe.settings import runtime_field
from camshaft.engine.runtime.metrics import MetricsLog
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.seeds import derive, seed_torch
from camshaft.engine.stages.networks import FILE
from camshaft.engine.stages.stage import Figures, Stage, StageContext, Supervision
from camshaft.engine.training import TrainingSettings, remove_checkpoints, train

CHECKPOINTS = "checkpoints"


class TrainingStage(Stage, TrainingSettings):
    """Settings that every training stage has."""

    augmentation: Augmentation = Augmentation(
        resize=Resize(long_side=(256, 448)),
        flip=0.5,
        jitter=ColourJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
        crop=384,
    )
    """What is done to each image; the default is that of OC-CSE's code."""
    multipliers: MultiplierSettings = MultiplierSettings()
    """Learning rates of pretrained and new layers, relative to the optimiser's."""
    workers: int = runtime_field(2, ge=0)
    """Threads that decode and augment."""

    @model_validator(mode="after")
    def _images_of_a_batch_have_one_size(self) -> Self:
        if self.batch_size > 1 and self.augmentation.fixed_size is None:
            raise ValueError("augmentation: images of a batch need one size: set crop or resize.square")
        return self

    backbone: BackboneSettings
    """The network below the head."""

    @abstractmethod
    def build(
        self, classes: Sequence[str], base: Path, *, pretrained: bool = True
    ) -> Classifier | Segmenter | AffinityNet:
        """The network that is trained, with its first weights; without them where `pretrained` is False."""

    def supervision(self) -> frozenset[Supervision]:
        """What the first weights learnt from."""
        if self.backbone.weights is None:
            return frozenset()
        return frozenset({Supervision.IMAGENET if self.backbone.weights == "imagenet" else Supervision.WEIGHTS})

    def external_files(self, base: Path) -> tuple[Path, ...]:
        """The file of the first weights."""
        backbone = self.backbone
        return () if backbone.weights is None else (weights_file(backbone.weights, backbone.name, base),)

    def fingerprinted_settings(self) -> dict[str, Any]:
        """The settings that change the result, and the versions of the packages that an imported backbone is from."""
        settings = super().fingerprinted_settings()
        if isinstance(self.backbone, ImportedBackboneSettings):
            settings["packages"] = self.backbone.packages()
        return settings

    def check(self, classes: Sequence[str], base: Path, ranks: Ranks) -> None:
        """See that the batch splits over the ranks and the weights are there, and build the network without memory."""
        self.micro_batch(ranks.world_size)
        self.external_files(base)
        with torch.device("meta"):
            self.build(classes, base, pretrained=False)

    def made_splits(self) -> None:
        """A network is made, nothing per image."""

    def tidy(self, folder: Path) -> None:
        """Remove the checkpoints."""
        remove_checkpoints(folder / CHECKPOINTS)


def seed_initial_weights(context: StageContext) -> None:
    """Make the random weights of new layers those of this stage, on every rank and after every resume."""
    seed_torch(*context.seed, "weights")


def fit(
    stage: TrainingStage,
    context: StageContext,
    network: Classifier | Segmenter | AffinityNet,
    objective: Objective,
    *,
    indices: Sequence[int] | None = None,
    targets: Targets | None = None,
) -> Figures:
    """Train `network` on the train split, and keep it in the stage's folder.

    Args:
        stage: how to train.
        context: the stage's.
        network: what learns.
        objective: what it minimises.
        indices: positions of the images that take part; None for all.
        targets: per-pixel targets by id; None for none.

    Raises:
        TrainingError: no images take part, or as `train` says.
    """
    ids = context.ids("train")
    if indices is not None and not len(indices):
        raise TrainingError(f"stages.{stage.id}: no image of the train split can be trained on")
    loader = Loader(
        context.data,
        ids,
        context.tags("train"),
        augmentation=stage.augmentation,
        normalization=network.normalization,
        batch_size=stage.micro_batch(context.ranks.world_size),
        seed=derive(*context.seed, "data"),
        indices=indices,
        rank=context.ranks.rank,
        world_size=context.ranks.world_size,
        targets=targets,
        workers=stage.workers,
        channels_last=True,
    )
    result = train(
        network,
        objective,
        loader,
        parameter_groups(network, stage.multipliers),
        stage,
        arithmetic=context.arithmetic,
        device=context.device,
        folder=context.folder / CHECKPOINTS,
        seed=context.seed,
        ranks=context.ranks,
        metrics=MetricsLog(context.folder, enabled=context.ranks.is_first),
        progress=lambda steps: context.console.progress(stage.id, steps, unit="steps"),
        stop=context.stop,
    )
    context.ranks.agree(lambda: save_network(context.folder / FILE, network))
    return {
        "images": len(ids) if indices is None else len(indices),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "steps": result.steps,
        "skipped_steps": result.skipped_steps,
        **result.figures,
    }


def tagged_images(context: StageContext) -> Sequence[int]:
    """Positions of the train images that have a tag."""
    return [int(position) for position in np.flatnonzero(context.tags("train").any(1))]
