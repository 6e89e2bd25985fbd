"""What a stage is: its settings, what it needs, what it makes, and the context in which it runs."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from camshaft.engine.data import DataSet, Inspection
from camshaft.engine.recipe.settings import Settings
from camshaft.engine.runtime.console import Console
from camshaft.engine.runtime.precision import Arithmetic
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.stop import StopFlag

Figures = dict[str, Any]
"""What a stage reports: JSON values by name, kept in its stage.json."""


class Product(StrEnum):
    """What a stage leaves in its folder, as other stages ask for it."""

    CLASSIFIER = "a classifier"
    REFINER = "a refinement network"
    SEGMENTER = "a segmentation network"
    AFFINITY = "an affinity network"
    MAPS = "maps"
    CRF = "CRF masks"
    MASKS = "masks"
    FIGURES = "figures"


class Supervision(StrEnum):
    """What a result has learnt from; the record follows it through the stages."""

    TAGS = "image tags"
    SALIENCY = "saliency maps"
    IMAGENET = "ImageNet weights"
    WEIGHTS = "weights from a file"


class Input:
    """Marks a field that names other stages: `guide: Annotated[str, Input(Product.CLASSIFIER)]`."""

    def __init__(self, *products: Product) -> None:
        """Accept a stage that makes any of `products`."""
        self.products = products


@dataclass(frozen=True)
class StageOutput:
    """A stage that is complete: where it is and what its stage.json says."""

    id: str
    folder: Path
    record: Mapping[str, Any]

    @property
    def product(self) -> Product:
        """What the stage made."""
        return Product(self.record["produces"])


@dataclass(frozen=True)
class StageContext:
    """All that a stage may use besides its settings."""

    folder: Path
    """The stage's own folder: it writes nowhere else."""
    base: Path
    """The folder from which a recipe's relative paths start."""
    data: DataSet
    inspection: Inspection
    inputs: Mapping[str, StageOutput]
    """The stages that the settings name, by id."""
    seed: tuple[int | str, ...]
    """The parts from which every seed of this stage is derived: the recipe's seed and the stage's id."""
    arithmetic: Arithmetic
    """What networks compute in."""
    device: torch.device
    """What networks compute on."""
    threads: int
    """Threads that this rank may use on the CPU."""
    ranks: Ranks
    console: Console
    stop: StopFlag
    notes: list[str] = field(default_factory=list)
    """Lines for stage.json and the report, such as which implementation was taken and why."""

    def ids(self, split: str) -> tuple[str, ...]:
        """The N images of a split that take part: those that can be read."""
        return self.inspection.splits[split].ids

    def sizes(self, split: str) -> NDArray[np.int32]:
        """Their heights and widths in pixels, int32 (N, 2)."""
        return self.inspection.splits[split].sizes

    def tags(self, split: str) -> NDArray[np.uint8]:
        """Their tags, uint8 (N, C)."""
        row = {image_id: position for position, image_id in enumerate(self.data.ids(split))}
        return self.data.tags(split)[[row[image_id] for image_id in self.ids(split)]]

    def note(self, line: str) -> None:
        """Keep a line for stage.json and the report, once."""
        if line not in self.notes:
            self.notes.append(line)


class Stage(Settings):
    """One step of a recipe. A subclass is its settings and how it runs; `kind` tells them apart."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)
    """The name by which other stages ask for this one."""

    kind: str
    """What the stage does; each subclass has one."""

    produces: ClassVar[Product]
    revision: ClassVar[int] = 1
    """Raised whenever the same settings and inputs would give another result than before."""

    def check(self, classes: Sequence[str], base: Path, ranks: Ranks) -> None:
        """Find what would stop this stage later, before the first one runs; cheap, and nothing is written.

        Args:
            classes: the data's.
            base: the folder from which a recipe's relative paths start.
            ranks: this process among its peers.

        Raises:
            CamshaftError: the stage can't run.
        """
        del classes, base, ranks

    @abstractmethod
    def run(self, context: StageContext) -> Figures:
        """Do the stage's work in `context.folder`, going on from what is there already; return its figures."""

    def tidy(self, folder: Path) -> None:
        """Remove from the stage's folder what is of no use once the stage is complete."""
        del folder

    def supervision(self) -> frozenset[Supervision]:
        """What this stage itself learns from; what its inputs learnt from is added by the pipeline."""
        return frozenset()

    def mask_splits(self) -> tuple[str, ...]:
        """The splits whose ground-truth masks the stage reads: none but for evaluation."""
        return ()

    def saliency_splits(self) -> tuple[str, ...]:
        """The splits whose saliency maps the stage reads; every image of them must have one."""
        return ()

    def requires_masks(self) -> bool:
        """Whether the masks of `mask_splits` must be there."""
        return True

    def external_files(self, base: Path) -> tuple[Path, ...]:
        """Files from outside the run whose content the result depends on, such as pretrained weights.

        Args:
            base: the folder from which a recipe's relative paths start.

        Raises:
            CamshaftError: one is not there.
        """
        del base
        return ()

    def needed_splits(self) -> tuple[str, ...]:
        """The splits that the stage works on; its inputs that are made per image must have them."""
        return ("train",)

    def made_splits(self) -> tuple[str, ...] | None:
        """The splits for which the stage leaves per-image results, or None where it leaves none."""
        return None

    def references(self) -> Iterator[tuple[str, str, Input]]:
        """Each stage that the settings name: (field, stage id, what may stand there)."""
        for name, info in type(self).model_fields.items():
            for mark in info.metadata:
                if isinstance(mark, Input):
                    value = getattr(self, name)
                    for reference in [value] if isinstance(value, str) else value or []:
                        yield name, reference, mark

    def misfits(self, inputs: "Mapping[str, Stage]") -> Iterator[str]:
        """Why stages that make what is asked for still do not do, a line each: "field: reason".

        Args:
            inputs: the stages that the settings name, by id, as far as they are well-formed.
        """
        del inputs
        yield from ()
