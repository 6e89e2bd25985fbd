"""Networks of the tests: real ones, with random weights and statistics that are not those of an untrained network."""

from collections.abc import Callable

import pytest
import torch
from torch import nn


def _randomised(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
    return network


@pytest.fixture
def randomised() -> Callable[[nn.Module], nn.Module]:
    """Give a network's normalisation layers statistics, scales and shifts as training would leave them."""
    return _randomised
