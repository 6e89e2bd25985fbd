"""OC-CSE's training step against one written as research scripts write it, for throughput.py."""

from collections.abc import Callable, Mapping
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

from benchmarks.harness import Case, RedError
from camshaft.engine.data import Batch
from camshaft.engine.models import (
    Classifier,
    ClassifierSettings,
    MultiplierSettings,
    build_classifier,
    parameter_groups,
    resnet,
)
from camshaft.engine.objectives import ErasingObjective, ErasingSettings
from camshaft.engine.objectives.erasing import sample_targets
from camshaft.engine.objectives.objective import Moment
from camshaft.engine.runtime.precision import Arithmetic, resolve
from camshaft.engine.training.deepspeed_engine import ObjectiveModule
from camshaft.engine.training.optimizer import build_optimizer
from camshaft.engine.training.settings import Sgd

CPU = torch.device("cpu")
IMAGES, SIDE, CLASSES = 4, 193, 20
STRONGEST = 5.0
"""The largest value of the maps: a network that has learnt has such ones, and they erase; random weights give none."""
RESEARCH = "as research scripts write it, fp32"
TOLERANCE: Mapping[Arithmetic, float] = {"fp32": 1e-3, "bf16": 3e-2, "fp16": 1e-2}
"""Relative, of the loss of the first step."""
FLAT = MultiplierSettings(
    pretrained_weights=1, pretrained_biases=1, new_weights=1, new_biases=1, decay_biases=False, decay_norms=False
)


def step_case() -> Case:
    """All steps begin with the same weights and see the same batch in every call."""
    torch.manual_seed(0)
    settings = ClassifierSettings.model_validate({"backbone": {"name": "resnet50", "output_stride": 16}})
    names = [f"class {number}" for number in range(CLASSES)]
    guide, network = (build_classifier(settings, names, Path()) for _ in range(2))
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(IMAGES, 3, SIDE, SIDE, generator=generator)
    tags = (torch.rand(IMAGES, CLASSES, generator=generator) > 0.8).float()
    tags[:, 0] = 1
    for each in (guide, network):
        with torch.no_grad():
            each.head.weight *= STRONGEST / each(image).max()
    batch = Batch(image, tags, torch.arange(IMAGES))
    moment = Moment(seed=("bench",), step=0, epoch=0, index=tuple(range(IMAGES)))
    optimizer = Sgd(lr=1e-6, weight_decay=0.0)
    auto, why = resolve("auto", CPU)
    ours: dict[str, Arithmetic] = {f"camshaft, {kind}": kind for kind in dict.fromkeys(("fp32", auto))}
    contenders = {RESEARCH: research_step(copied(network), copied(guide), batch, moment, optimizer)} | {
        name: our_step(copied(network), copied(guide), batch, moment, optimizer, kind) for name, kind in ours.items()
    }

    def check(results: Mapping[str, tuple[float, float]]) -> str:
        (theirs, erased) = results[RESEARCH]
        if erased < 0.01:
            raise RedError(f"erasing changes {erased:.1e} of the images, so that the step is not OC-CSE's")
        errors = []
        for name, kind in ours.items():
            errors.append(f"{kind} {abs(results[name][0] - theirs) / abs(theirs):.1e}")
            if not abs(results[name][0] - theirs) < TOLERANCE[kind] * abs(theirs):
                raise RedError(f"losses {theirs} and {results[name][0]} ({name})")
        return f"erasing changes {erased:.0%} of the images; first losses differ by {', '.join(errors)} of their value"

    notes = {f"camshaft, {auto}": why}
    return Case("OC-CSE step", f"ResNet-50, {IMAGES} images of {SIDE} px", contenders, RESEARCH, check, notes, rounds=5)


def copied(network: Classifier) -> Classifier:
    copy = build_classifier(network.settings, network.classes, Path())
    copy.load_state_dict(network.state_dict())
    return copy


def research_step(
    network: Classifier, guide: Classifier, batch: Batch, moment: Moment, settings: Sgd
) -> Callable[[], tuple[float, float]]:
    """Separate operations in float32, the guide's weights with gradients, figures read by .item() in each step."""
    network.train()
    guide.eval()
    optimizer = torch.optim.SGD(network.parameters(), settings.lr, settings.momentum, foreach=False, fused=False)
    target = sample_targets(batch.tags, moment)
    remaining = batch.tags.clone()
    remaining[torch.arange(len(target)), target] = 0
    sums = {"loss": 0.0, "classification": 0.0, "erasing": 0.0}

    def step() -> tuple[float, float]:
        with patch.object(resnet, "normalized", lambda x, convolution, norm: norm(convolution(x))):
            optimizer.zero_grad()
            maps = network(batch.image)
            classification = F.multilabel_soft_margin_loss(maps.mean((2, 3)), batch.tags)
            up = F.relu(F.interpolate(maps, batch.image.shape[2:], mode="bilinear", align_corners=False))
            chosen = up[torch.arange(len(target)), target].unsqueeze(1)
            mask = 1 - chosen / (chosen.max() + 1e-5)
            left = guide(batch.image * mask)
            erasing = F.multilabel_soft_margin_loss(left.mean((2, 3)), remaining)
            loss = classification + 0.3 * erasing
            loss.backward()
            optimizer.step()
        for name, value in (("loss", loss), ("classification", classification), ("erasing", erasing)):
            sums[name] += value.item()
        return loss.item(), 1 - mask.mean().item()

    return step


def our_step(
    network: Classifier, guide: Classifier, batch: Batch, moment: Moment, settings: Sgd, arithmetic: Arithmetic
) -> Callable[[], tuple[float, float]]:
    """The training loop's own parts; the loss is read where the loop reads it, once a step."""
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    objective = ErasingObjective(ErasingSettings(), guide)
    objective.to(CPU)
    module = ObjectiveModule(network, objective, arithmetic, CPU)
    optimizer = build_optimizer(settings, parameter_groups(network, FLAT))
    image = batch.image.contiguous(memory_format=torch.channels_last)
    batch = Batch(image, batch.tags, batch.index)

    def step() -> tuple[float, float]:
        optimizer.zero_grad()
        loss, _ = module(batch, moment)
        loss.sum().backward()
        optimizer.step()
        return float(loss.detach().sum()), 0.0

    return step
