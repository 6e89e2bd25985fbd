"""Tag classification on hand-worked scores."""

import math

import pytest
import torch

from camshaft.engine.data.batch import Batch
from camshaft.engine.objectives import TagsObjective
from camshaft.engine.objectives.tags import bce_per_image, exact_match, without_class


def test_hand_worked_loss_and_accuracy(moment):
    # Maps whose means are the scores 0, ln 3 and −ln 3: probabilities 1/2, 3/4 and 1/4.
    scores = torch.tensor([[0.0, math.log(3)], [-math.log(3), math.log(3)]])
    maps = scores[:, :, None, None] + torch.tensor([[-1.0, 1.0], [2.0, -2.0]])
    batch = Batch(torch.zeros(2, 3, 4, 4), torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 1]))
    loss, figures = TagsObjective()(lambda _image: maps, batch, moment)
    expected = (math.log(2) + 3 * math.log(4 / 3)) / 4
    assert float(loss.detach()) == pytest.approx(expected)
    # The first image's score of exactly 0 is not above a half, so its first tag is missed.
    assert float(figures["accuracy"]) == 0.5


def test_the_loss_is_drs_multilabel_soft_margin(batch, moment):
    maps = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    loss, _ = TagsObjective()(lambda _image: maps, batch, moment)
    expected = torch.nn.functional.multilabel_soft_margin_loss(maps.mean((2, 3)), batch.tags)
    torch.testing.assert_close(loss, expected)


def test_half_precision_maps_are_pooled_in_float32(batch, moment):
    maps = torch.full((4, 3, 64, 64), 100.0, dtype=torch.float16, requires_grad=True)
    loss, _ = TagsObjective()(lambda _image: maps, batch, moment)
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(100 * 6 / 12)


def test_without_class_and_its_loss():
    tags = torch.tensor([[1.0, 1, 0], [0, 1, 0], [0, 0, 0]])
    assert without_class(tags, torch.tensor([1, 1, -1])).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert bce_per_image(torch.zeros(3, 3), tags).tolist() == pytest.approx([math.log(2)] * 3)
    assert float(exact_match(torch.tensor([[1.0, 1, -1], [1, 1, -1], [-1, -1, -1]]), tags)) == pytest.approx(2 / 3)
