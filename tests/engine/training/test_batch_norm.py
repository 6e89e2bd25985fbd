"""Batch normalisation of several ranks is, by definition, that of one rank with all of their images."""

from pathlib import Path

import pytest
import torch
from torch import nn

from camshaft.engine.errors import TrainingError
from camshaft.engine.training.batch_norm import share_statistics

NORMS = (
    {},
    {"momentum": None, "eps": 1e-3},
    {"affine": False},
    {"track_running_stats": False},
)
TOLERANCE = {"rtol": 1e-11, "atol": 1e-12}
"""In float64: two ranks add the same numbers in another order."""


@pytest.fixture(scope="module")
def both(tmp_path_factory, start_ranks):
    """What two ranks were given, and what each found: 3 of 8 images on the first, 5 on the second."""
    folder = tmp_path_factory.mktemp("batch_norm")
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    given = {
        "images": random(8, 6, 5, 7) * random(6, 1, 1).exp() + 100 * random(6, 1, 1),
        "factors": [random(8, 6, 5, 7), random(8, 6, 5, 7)],
        "state": {"0.weight": random(6), "0.bias": random(6)},
        "norms": NORMS,
        "split": 3,
    }
    torch.save(given, folder / "given.pt")
    processes = start_ranks(Path(__file__).with_name("batch_norm_worker.py"), folder)
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return given, [torch.load(folder / f"found-{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.two_ranks
@pytest.mark.parametrize("number", range(len(NORMS)))
def test_two_ranks_with_parts_of_a_batch_are_one_with_the_whole(both, number):
    given, (first, second) = both[0], (found[number] for found in both[1])
    norm = nn.BatchNorm2d(6, **NORMS[number]).double()
    network = nn.Sequential(norm).train()
    network.load_state_dict(given["state"], strict=False)
    images = given["images"].clone().requires_grad_()
    outputs = network(images), network(2 * images)
    sum((output * factor).sum() for output, factor in zip(outputs, given["factors"], strict=True)).backward()
    for one, other, whole in zip(first["outputs"], second["outputs"], outputs, strict=True):
        torch.testing.assert_close(torch.cat([one, other]), whole, **TOLERANCE)
    of_images = torch.cat([first["gradients"][0], second["gradients"][0]])
    torch.testing.assert_close(of_images, images.grad, rtol=1e-9, atol=1e-10)
    parameters = list(norm.parameters())
    for one, other, whole in zip(first["gradients"][1:], second["gradients"][1:], parameters, strict=True):
        torch.testing.assert_close(one + other, whole.grad, rtol=1e-9, atol=1e-10)
    for state in (first["state"], second["state"]):
        torch.testing.assert_close(state, dict(network.state_dict()), **TOLERANCE)


def test_hooks_and_modules_within_stay():
    network = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2).eval())
    network[0].add_module("within", nn.Identity())
    seen = []
    network[0].register_forward_hook(lambda *_: seen.append(True))
    share_statistics(network, torch.device("cpu"))
    network.eval()
    network(torch.zeros(1, 2, 3, 3))
    assert seen == [True]
    assert isinstance(network[0], nn.BatchNorm2d)
    assert dict(network.named_modules()).keys() == {"", "0", "0.within", "1"}


def test_a_norm_whose_statistics_cannot_be_shared_is_named():
    class Other(nn.BatchNorm2d):
        pass

    network = nn.ModuleDict({"frozen": Other(2)})
    network["frozen"].train = lambda mode=True: network["frozen"]  # noqa: ARG005
    network["frozen"].training = False
    share_statistics(network, torch.device("cpu"))
    with pytest.raises(TrainingError, match="batch_norm: train: learning is a Other, not torch's BatchNorm2d"):
        share_statistics(nn.ModuleDict({"learning": Other(2)}), torch.device("cpu"))
