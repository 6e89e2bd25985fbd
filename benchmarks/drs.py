"""Training steps of DRS's VGG-16: suppression against plain ReLU, in time and in what is kept for the backward pass.

The peer is the network without suppression. Memory is that of the tensors which autograd keeps between the two passes,
parameters left out, each storage counted once.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.harness import Case, RedError, main
from camshaft.engine.models import Classifier, ClassifierSettings, build_classifier, parameter_groups
from camshaft.engine.models.parameters import MultiplierSettings
from camshaft.engine.objectives.tags import bce_per_image, pooled_scores

CLASSES = tuple(f"class {number}" for number in range(20))
SUPPRESSIONS: Mapping[str, Mapping[str, Any] | None] = {
    "ReLU": None,
    "δ = 0.55": {"controller": "fixed", "delta": 0.55},
    "learnable": {"controller": "learnable"},
}
TOLERANCE = 1e-5


@dataclass
class Step:
    """One network and its optimiser; a call is one step on the same images."""

    network: Classifier
    optimizer: torch.optim.Optimizer
    image: Tensor
    tags: Tensor
    autocast: bool

    def loss(self) -> Tensor:
        with torch.autocast(self.image.device.type, torch.bfloat16, enabled=self.autocast):
            maps = self.network(self.image)
        return bce_per_image(pooled_scores(maps), self.tags).mean()

    def __call__(self) -> float:
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def step_of(suppression: Mapping[str, Any] | None, images: int, side: int, device: str, *, autocast: bool) -> Step:
    torch.manual_seed(0)
    settings = ClassifierSettings.model_validate({"backbone": {"name": "vgg16"}, "suppression": suppression})
    network = build_classifier(settings, CLASSES, Path()).train()
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(images, 3, side, side, generator=generator)
    tags = (torch.rand(images, len(CLASSES), generator=generator) > 0.9).float()
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    groups = parameter_groups(network, MultiplierSettings())
    optimizer = torch.optim.SGD([{"params": group["params"]} for group in groups], lr=1e-6, momentum=0.9)
    image = image.to(device, memory_format=torch.channels_last)
    return Step(network, optimizer, image, tags.to(device), autocast)


def kept_bytes(step: Step) -> int:
    """Bytes that autograd keeps between the forward and the backward pass, beside parameters and the images."""
    others = {parameter.untyped_storage().data_ptr() for parameter in step.network.parameters()}
    others.add(step.image.untyped_storage().data_ptr())
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in others:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = step.loss()
    del loss
    return sum(kept.values())


def without_effect(images: int, side: int, device: str) -> str:
    """With δ = 1 suppression changes nothing: loss and gradients are those of ReLU.

    Raises:
        RedError: they are not.
    """
    steps = [step_of(one, images, side, device, autocast=False) for one in (None, {"controller": "fixed", "delta": 1})]
    gradients = []
    for step in steps:
        step.loss().backward()
        gradients.append([parameter.grad for parameter in step.network.parameters()])
    worst = 0.0
    for plain, suppressed in zip(*gradients, strict=True):
        assert plain is not None
        assert suppressed is not None
        worst = max(worst, float((plain - suppressed).norm() / plain.norm().clamp(min=1e-12)))
    if worst > TOLERANCE:
        raise RedError(f"δ = 1 differs from ReLU by {worst:.1e} in a gradient")
    return f"with δ = 1 gradients are ReLU's to {worst:.0e}"


def case(images: int, side: int, device: str, *, autocast: bool) -> Case:
    agreement = without_effect(1, min(side, 65), device)
    steps = {name: step_of(one, images, side, device, autocast=autocast) for name, one in SUPPRESSIONS.items()}
    kept = {name: kept_bytes(step) for name, step in steps.items()}
    notes = {
        name: f"keeps {count / 2**20:.0f} MiB, {count / kept['ReLU']:.2f}× ReLU's; "
        f"{sum(p.numel() for p in steps[name].network.parameters()) / 1e6:.1f} M parameters"
        for name, count in kept.items()
    }
    kind = "bfloat16" if autocast else "float32"
    synchronise = torch.cuda.synchronize if device == "cuda" else nothing
    contenders: dict[str, Callable[[], object]] = dict(steps)
    return Case(
        "VGG-16 step",
        f"{device}, {images}×{side}², {kind}",
        contenders,
        "ReLU",
        lambda _results: agreement,
        notes=notes,
        rounds=5 if device == "cpu" else 20,
        synchronise=synchronise,
    )


def nothing() -> None:
    """On the CPU every call returns when it is done."""


CPU_CASES: dict[str, Callable[[], Case]] = {
    "cpu": partial(case, 2, 161, "cpu", autocast=False),
    "cpu-tiny": partial(case, 1, 33, "cpu", autocast=False),
}
GPU_CASES: dict[str, Callable[[], Case]] = {
    "gpu": partial(case, 5, 321, "cuda", autocast=False),
    "gpu-half": partial(case, 5, 321, "cuda", autocast=True),
}

if __name__ == "__main__":
    sys.exit(main(__doc__ or "", CPU_CASES | (GPU_CASES if torch.cuda.is_available() else {})))
