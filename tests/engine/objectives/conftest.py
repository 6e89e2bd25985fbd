"""Batches and moments for objectives."""

import pytest
import torch

from camshaft.engine.data.batch import Batch
from camshaft.engine.objectives import Moment


@pytest.fixture(autouse=True)
def _same_weights_each_time():
    torch.manual_seed(0)


@pytest.fixture
def moment():
    return Moment(step=4, epoch=2, seed=(0, "test"), index=(7, 1, 9, 3))


@pytest.fixture
def batch():
    """Four images with tags of 2, 1, 0 and 3 classes."""
    generator = torch.Generator().manual_seed(5)
    tags = torch.tensor([[1.0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1]])
    return Batch(torch.rand(4, 3, 8, 8, generator=generator), tags, torch.tensor([7, 1, 9, 3]))
