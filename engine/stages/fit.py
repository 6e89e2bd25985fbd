"""The frame of every stage that trains a network: images, loader, the one loop, and the network's file."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor, nn

from camshaft.engine.data import Augmentation, ColourJitter, Resize
from camshaft.engine.data.dali import LoaderName, choose_loader
from camshaft.engine.data.loader import Targets
from camshaft.engine.errors import RecipeError, TrainingError
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
from camshaft.engine.training.deepspeed_engine import deepspeed_config

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
    loader: LoaderName = runtime_field("auto")
    """What decodes and augments: torch (Pillow, in threads), dali (NVIDIA DALI), or auto: DALI where a GPU does the
    work. Draws and geometry are equal; pixels differ by how they are resized."""

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
        """The file of the first weights, and the one of what else DeepSpeed is told."""
        backbone = self.backbone
        weights = () if backbone.weights is None else (weights_file(backbone.weights, backbone.name, base),)
        return weights if self.deepspeed is None else (*weights, base / self.deepspeed.config)

    def fingerprinted_settings(self) -> dict[str, Any]:
        """The settings that change the result, and the versions of the packages that an imported backbone is from."""
        settings = super().fingerprinted_settings()
        if isinstance(self.backbone, ImportedBackboneSettings):
            settings["packages"] = self.backbone.packages()
        return settings

    def check(self, classes: Sequence[str], base: Path, ranks: Ranks) -> None:
        """See that the batch splits over the ranks and the weights are there, and build the network without memory."""
        deepspeed_config(self, ranks.world_size, base)
        self.external_files(base)
        with torch.device("meta"):
            backbone = self.build(classes, base, pretrained=False).backbone
        learns = any(parameter.requires_grad for parameter in backbone.parameters())
        if self.checkpoint_activations and not (backbone.recomputable and learns):
            why = "none of the backbone learns" if backbone.recomputable else "an imported network's blocks are unknown"
            raise RecipeError(f"checkpoint_activations: has no effect: {why}")

    def made_splits(self) -> None:
        """A network is made, nothing per image."""

    def tidy(self, folder: Path) -> None:
        """Remove the checkpoints."""
        remove_checkpoints(folder / CHECKPOINTS)


class Together(nn.Module):
    """A network and another one that learns along, as one module: it answers as the network does."""

    def __init__(self, network: nn.Module, companion: nn.Module) -> None:
        """Hold both."""
        super().__init__()
        self.network = network
        self.companion = companion

    def forward(self, image: Tensor) -> Tensor:
        """The network's output."""
        output: Tensor = self.network(image)
        return output


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
    companion: Classifier | None = None,
) -> Figures:
    """Train `network` on the train split, and keep it in the stage's folder.

    Args:
        stage: how to train.
        context: the stage's.
        network: what learns.
        objective: what it minimises.
        indices: positions of the images that take part; None for all.
        targets: per-pixel targets by id; None for none.
        companion: another network that the objective holds and that learns along; it is not kept. None for none.

    Raises:
        TrainingError: no images take part, or as `train` says.
    """
    ids = context.ids("train")
    if indices is not None and not len(indices):
        raise TrainingError(f"stages.{stage.id}: no image of the train split can be trained on")
    loader = choose_loader(stage.loader, context.data, ids, context.device)(
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
        device=context.device,
    )
    learning: nn.Module = network if companion is None else Together(network, companion)
    result = train(
        learning,
        objective,
        loader,
        parameter_groups(learning, stage.multipliers),
        stage,
        arithmetic=context.arithmetic,
        device=context.device,
        folder=context.folder / CHECKPOINTS,
        seed=context.seed,
        ranks=context.ranks,
        metrics=MetricsLog(context.folder, enabled=context.ranks.is_first),
        progress=lambda steps: context.console.progress(stage.id, steps, unit="steps"),
        stop=context.stop,
        base=context.base,
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
