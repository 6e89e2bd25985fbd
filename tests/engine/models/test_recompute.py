"""Blocks that are computed again in the backward pass: the same numbers to the last bit, and much less kept."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call

from camshaft.engine.models import ClassifierSettings, build_classifier
from camshaft.engine.models.affinity import AffinityNetSettings, build_affinity_net
from camshaft.engine.models.recompute import recomputing, run_block

LITE = {"name": "efficientnet_lite0", "weights": None}
CLASSIFIERS = [
    {"backbone": {**LITE, "batch_norm": "train"}, "suppression": {"controller": "learnable"}},
    {"backbone": {**LITE, "freeze": ["stem", "stage1"]}, "suppression": {"mode": "follow", "layers": ["stage3"]}},
    {"backbone": {"name": "vgg16", "form": "largefov"}, "suppression": {"controller": "fixed", "delta": 0.5}},
    {"backbone": {"name": "resnet50", "batch_norm": "train"}, "suppression": {"mode": "follow", "layers": ["layer3"]}},
]


def bytes_kept(network, image, *, recomputes):
    """The loss, and the bytes that autograd keeps for the backward pass beside parameters and the image."""
    others = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), image)}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in others:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), recomputing(enabled=recomputes):
        # Twice, as when a network guides itself.
        loss = network(image).square().mean() + network(image / 2).mean()
    return loss, sum(kept.values())


def both_ways(build, image):
    """Loss, bytes, gradients and buffers without recomputation, then with it."""
    found = []
    for recomputes in (False, True):
        torch.manual_seed(0)
        network = build().train()
        torch.manual_seed(1)
        loss, kept = bytes_kept(network, image, recomputes=recomputes)
        loss.backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        found.append((loss.detach(), kept, gradients, dict(network.named_buffers())))
    return found


def assert_same(plain, again, *, at_most):
    assert torch.equal(again[0], plain[0])
    assert again[1] < at_most * plain[1]
    for name, gradient in plain[2].items():
        assert (gradient is None) == (again[2][name] is None), name
        assert gradient is None or torch.equal(again[2][name], gradient), name
    for name, buffer in plain[3].items():
        assert torch.equal(again[3][name], buffer), name


@pytest.mark.parametrize("settings", CLASSIFIERS)
def test_a_classifier_learns_the_same_from_less(settings):
    parsed = ClassifierSettings.model_validate(settings)
    image = torch.randn(2, 3, 49, 49, generator=torch.Generator().manual_seed(2))
    plain, again = both_ways(lambda: build_classifier(parsed, ["a", "b"], Path()), image)
    assert_same(plain, again, at_most=0.35)


def test_layers_that_are_looked_into_give_the_same():
    """AffinityNet's levels are outputs from within blocks, caught by hooks that are gone in the backward pass."""
    levels = [{"layer": name, "channels": 8} for name in ("_blocks.4.expand_act", "stage5", "_blocks.15")]
    settings = AffinityNetSettings.model_validate({"backbone": LITE, "levels": levels})
    image = torch.randn(1, 3, 65, 65, generator=torch.Generator().manual_seed(2))
    plain, again = both_ways(lambda: build_affinity_net(settings, ["a"], Path()), image)
    assert_same(plain, again, at_most=0.5)


class Blocked(nn.Module):
    """One block with all that a second pass could do otherwise: statistics, random numbers, modes."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout2d(0.5), nn.Conv2d(8, 4, 1))

    def forward(self, x):
        return run_block(x, self.block)


@pytest.fixture
def image():
    return torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(3), requires_grad=True)


def judged_and_taught(network, image):
    """A guide that learns: it judges with its weights held, in inference mode, then is taught in training mode."""
    held = {name: value.detach() for name, value in network.named_parameters()}
    judged = functional_call(network.eval(), held, (image,)).square().mean()
    lesson = network.train()(image.detach()).square().mean()
    return judged, lesson


def test_a_pass_is_repeated_as_it_was_whatever_became_of_the_network(image):
    """Judging takes the running statistics of its own time, though teaching moves them before the backward pass."""
    torch.manual_seed(0)
    network = Blocked()
    network.block[1].running_mean.uniform_(-1, 1)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    held = {name: value.detach() for name, value in network.named_parameters()}
    functional_call(network.eval(), held, (image,)).square().mean().backward()
    expected, image.grad = image.grad, None
    network.load_state_dict(state)
    with recomputing():
        judged, lesson = judged_and_taught(network, image)
    judged.backward()
    assert torch.equal(image.grad, expected)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    lesson.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert int(network.block[1].num_batches_tracked) == 1


def test_random_numbers_are_drawn_again(image):
    found = []
    for recomputes in (False, True):
        torch.manual_seed(0)
        network = Blocked()
        with recomputing(enabled=recomputes):
            loss = network(image).square().mean()
        after = torch.rand(())
        image.grad = None
        loss.backward()
        found.append((loss.detach(), image.grad, after, torch.rand(())))
    for plain, again in zip(*found, strict=True):
        assert torch.equal(plain, again)


def test_nothing_is_repeated_outside_or_without_gradients(image):
    calls = []
    network = Blocked()
    network.block.register_forward_pre_hook(lambda *_: calls.append(True))
    with recomputing():
        with torch.no_grad():
            network(image)
        inside = network(image)
    network(image).sum().backward()
    assert len(calls) == 3
    inside.sum().backward()
    assert len(calls) == 4
