"""Segmentation loss: ignored pixels, nothing but ignored pixels, and both resolutions."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

from camshaft.engine.data.batch import Batch
from camshaft.engine.objectives import SegmentationObjective, SegmentationSettings


def labelled(target):
    target = torch.as_tensor(target, dtype=torch.uint8)
    return Batch(
        torch.zeros(len(target), 3, *target.shape[1:]), torch.zeros(len(target), 2), torch.arange(len(target)), target
    )


def test_hand_worked_mean_over_labelled_pixels(moment):
    # Class 1 has probability 3/4 everywhere, class 0 the rest.
    logits = torch.tensor([0.0, math.log(3)])[None, :, None, None].expand(1, 2, 1, 3).clone()
    loss, figures = SegmentationObjective(SegmentationSettings(), 1)(
        lambda _i: logits, labelled([[[1, 0, 255]]]), moment
    )
    assert float(loss.detach()) == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    assert float(figures["pixel_accuracy"]) == 0.5


@pytest.mark.parametrize("resolution", ["labels", "logits"])
def test_nothing_but_ignored_pixels_gives_zero_and_a_zero_gradient(moment, resolution):
    logits = torch.randn(2, 4, 3, 4, requires_grad=True)
    objective = SegmentationObjective(SegmentationSettings(resolution=resolution), stride=3)
    batch = labelled(torch.full((2, 9, 11), 255))
    loss, figures = objective(lambda _i: logits, batch, moment)
    loss.backward()
    assert float(loss.detach()) == 0
    assert float(figures["pixel_accuracy"]) == 0
    assert float(logits.grad.abs().max()) == 0
    assert objective.weight(batch) == 0


def test_logits_are_upsampled_to_the_labels(moment):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 4, generator=generator)
    target = torch.randint(0, 4, (2, 9, 11), generator=generator)
    target[0, :4] = 255
    for aligned in (False, True):
        objective = SegmentationObjective(SegmentationSettings(align_corners=aligned), stride=3)
        loss, _ = objective(lambda _i: logits, labelled(target), moment)
        full = interpolate(logits, (9, 11), mode="bilinear", align_corners=aligned)
        torch.testing.assert_close(loss, cross_entropy(full, target, ignore_index=255))


def test_labels_are_thinned_out_to_the_logits_without_new_values(moment):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 4, generator=generator)
    target = torch.randint(0, 4, (2, 9, 12), generator=generator)
    objective = SegmentationObjective(SegmentationSettings(resolution="logits"), stride=3)
    loss, _ = objective(lambda _i: logits, labelled(target), moment)
    # Stride 3: each output pixel takes the label in the middle of its 3 × 3.
    torch.testing.assert_close(loss, cross_entropy(logits, target[:, 1::3, 1::3]))
    assert objective.weight(labelled(target)) == 24


def test_weight_counts_labelled_pixels():
    objective = SegmentationObjective(SegmentationSettings(), 1)
    assert objective.weight(labelled([[[1, 0, 255]], [[255, 255, 2]]])) == 3


def test_a_batch_without_targets_is_refused(batch, moment):
    with pytest.raises(ValueError, match="needs a batch with label images"):
        SegmentationObjective(SegmentationSettings(), 1)(lambda _i: torch.zeros(4, 2, 8, 8), batch, moment)
