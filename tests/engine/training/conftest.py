"""A tiny task that every training test shares: images whose tags follow from their channels' means."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from camshaft.engine.data.batch import Batch
from camshaft.engine.models.parameters import MultiplierSettings, parameter_groups
from camshaft.engine.objectives import (
    ErasingObjective,
    ErasingSettings,
    Objective,
    SegmentationObjective,
    SegmentationSettings,
    TagsObjective,
)
from camshaft.engine.runtime.metrics import MetricsLog, read_metrics
from camshaft.engine.runtime.precision import Arithmetic
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.seeds import derive, numpy_generator
from camshaft.engine.runtime.stop import StopFlag
from camshaft.engine.training import TrainingResult, TrainingSettings, train

SGD = {"kind": "sgd", "lr": 0.05, "nesterov": True}
ADAM = {"kind": "adam", "lr": 0.01}
RESUMED: dict[str, dict[str, Any]] = {
    f"stopped_zero{stage}_{optimizer['kind']}": {
        "batch_size": 8,
        "accumulation": accumulation,
        "zero_stage": stage,
        "optimizer": optimizer,
    }
    for stage, optimizer, accumulation in ((0, SGD, 2), (1, SGD, 1), (2, SGD, 1), (0, ADAM, 1), (1, ADAM, 1))
}
"""Trainings that are stopped on one number of ranks and go on on another, by name."""


@dataclass
class TinySource:
    """Random images in a seeded order for each epoch; rank r of R takes each micro-batch's r-th share."""

    images: int = 24
    micro_batch: int = 4
    size: int = 12
    rank: int = 0
    ranks: int = 1
    poison: int | None = None

    def __len__(self) -> int:
        return self.images // (self.micro_batch * self.ranks)

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        order = numpy_generator("order", epoch).permutation(self.images)
        for batch in range(start_batch, len(self)):
            first = (batch * self.ranks + self.rank) * self.micro_batch
            yield self.batch(order[first : first + self.micro_batch])

    def batch(self, index: np.ndarray) -> Batch:
        images, tags, targets = zip(*(self.sample(int(i)) for i in index), strict=True)
        return Batch(
            torch.stack(images), torch.stack(tags), torch.from_numpy(index.astype(np.int64)), torch.stack(targets)
        )

    def sample(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(derive("image", index))
        tags = (torch.rand(3, generator=generator) > 0.5).float()
        image = torch.randn(3, self.size, self.size, generator=generator) + tags[:, None, None]
        if index == self.poison:
            image[0, 0, 0] = float("nan")
        return image, tags, (image.argmax(0) + 1).to(torch.uint8)


class TinyNetwork(nn.Module):
    """Maps (B, outputs, h, w) at stride 2, with dropout and a normalisation in it."""

    def __init__(self, outputs: int = 3, dropout: float = 0.3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(8, outputs, 1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.dropout(torch.relu(self.norm(self.stem(image)))))


class BatchNormalised(TinyNetwork):
    """The same with batch normalisation, and without dropout."""

    def __init__(self) -> None:
        super().__init__(dropout=0.0)
        self.norm = nn.BatchNorm2d(8)


@pytest.fixture
def batch_normalised() -> type[BatchNormalised]:
    return BatchNormalised


@pytest.fixture
def tiny_source() -> type[TinySource]:
    return TinySource


@pytest.fixture
def two_scale_objective() -> Objective:
    return two_scales()


@pytest.fixture(name="batch_erasing")
def _batch_erasing() -> Callable[[str], Objective]:
    return batch_erasing


@pytest.fixture(params=RESUMED)
def resumed(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return request.param, RESUMED[request.param]


@pytest.fixture
def tiny_network() -> type[TinyNetwork]:
    return TinyNetwork


class Run:
    """One training of the tiny task in a folder of its own; each call is a new process's worth of state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.network = TinyNetwork()

    def __call__(
        self,
        settings: dict[str, Any] | None = None,
        *,
        source: TinySource | None = None,
        objective: Objective | None = None,
        arithmetic: Arithmetic = "fp32",
        network: Callable[[], TinyNetwork] = TinyNetwork,
        stop: StopFlag | None = None,
        ranks: Ranks | None = None,
        each_step: Callable[[int], None] = lambda _step: None,
    ) -> TrainingResult:
        ranks = ranks or Ranks()
        torch.manual_seed(3)
        self.network = network()
        parsed = TrainingSettings.model_validate({**SETTINGS, **(settings or {})})
        if source is None:
            micro_batch = parsed.micro_batch(ranks.world_size)
            source = TinySource(micro_batch=micro_batch, rank=ranks.rank, ranks=ranks.world_size)
        return train(
            self.network,
            objective or TagsObjective(),
            source,
            parameter_groups(self.network, MultiplierSettings()),
            parsed,
            arithmetic=arithmetic,
            device=torch.device("cpu"),
            folder=self.checkpoints,
            seed=(0, "tiny"),
            ranks=ranks,
            metrics=MetricsLog(self.folder, tensorboard=False, enabled=ranks.is_first),
            progress=lambda _total: Steps(each_step),
            stop=stop or StopFlag(),
        )

    def losses(self) -> list[float]:
        return [record["loss"] for record in read_metrics(self.folder / "metrics.jsonl")]

    def weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.network.state_dict().items()}


def two_scales() -> Objective:
    """DeepLab-v2's loss on a network of stride 2."""
    settings = SegmentationSettings(scales=(1.0, 0.5), resolution="logits", align_corners=True)
    return SegmentationObjective(settings, stride=2)


ORDERS = ("relu_divide_upsample", "upsample_relu_divide")


def batch_erasing(order: str) -> Objective:
    """Self-guided erasing where all maps of a batch are divided by one maximum, as in OC-CSE's public code."""
    return ErasingObjective(ErasingSettings.model_validate({"guidance": "shared", "maximum": "batch", "order": order}))


SETTINGS = {
    "epochs": 3,
    "batch_size": 4,
    "optimizer": {"kind": "sgd", "lr": 0.05, "nesterov": True},
    "log_every": 1,
    "checkpoint_every": {"steps": 1000},
}


class Steps(nullcontext[None]):
    """Progress that calls back with the number of steps done."""

    def __init__(self, each_step: Callable[[int], None]) -> None:
        super().__init__()
        self._done, self._each_step = 0, each_step

    def __enter__(self) -> "Steps":
        return self

    def start_at(self, done: int) -> None:
        self._done = done

    def advance(self, count: int = 1, note: str | None = None) -> None:  # noqa: ARG002
        self._done += count
        self._each_step(self._done)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


@pytest.fixture
def another_run(tmp_path: Path) -> Run:
    return Run(tmp_path / "another")
