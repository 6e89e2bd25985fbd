"""Segmentation loss: ignored pixels, nothing but ignored pixels, both resolutions, several scales, self-training."""

import math

import pytest
import torch
from pydantic import ValidationError
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


def test_aligned_labels_are_those_on_which_features_stand(moment):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 4, generator=generator)
    target = torch.randint(0, 4, (2, 7, 10), generator=generator)
    objective = SegmentationObjective(SegmentationSettings(resolution="logits", align_corners=True), stride=3)
    loss, _ = objective(lambda _i: logits, labelled(target), moment)
    torch.testing.assert_close(loss, cross_entropy(logits, target[:, ::3, ::3]))
    assert objective.weight(labelled(target)) == 24


class Pooled:
    """A network of stride 4 without weights, that remembers the sizes it saw."""

    def __init__(self, classes):
        self.mix = torch.randn(classes, 3, generator=torch.Generator().manual_seed(1))
        self.seen = []

    def __call__(self, image):
        self.seen.append(tuple(image.shape[2:]))
        size = [-(-side // 4) for side in image.shape[2:]]
        return torch.einsum("kc,bchw->bkhw", self.mix, interpolate(image, size, mode="area"))


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("resolution", ["labels", "logits"])
def test_several_scales_add_their_losses_and_that_of_their_maximum(moment, aligned, resolution):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, 33, 41, generator=generator)
    target = torch.randint(0, 3, (2, 33, 41), generator=generator)
    batch = Batch(image, torch.ones(2, 2), torch.arange(2), target.to(torch.uint8))
    settings = SegmentationSettings(scales=(0.5, 1.0, 0.75), resolution=resolution, align_corners=aligned)
    network = Pooled(3)
    loss, _ = SegmentationObjective(settings, stride=4)(network, batch, moment)
    assert network.seen == [(17, 21) if aligned else (16, 20), (33, 41), (25, 29) if aligned else (25, 31)]

    outputs = [
        network(image if size == (33, 41) else interpolate(image, size, mode="bilinear", align_corners=aligned))
        for size in network.seen[:3]
    ]
    full = [interpolate(one, (9, 11), mode="bilinear", align_corners=aligned) for one in outputs]
    outputs.append(torch.stack(full).amax(0))
    expected = 0.0
    for logits in outputs:
        height, width = logits.shape[2:]
        compared, truth = logits, target
        if resolution == "labels":
            compared = interpolate(logits, (33, 41), mode="bilinear", align_corners=aligned)
        elif aligned:
            rows, columns = torch.linspace(0, 32, height).round().long(), torch.linspace(0, 40, width).round().long()
            truth = target[:, rows][:, :, columns]
        else:
            truth = interpolate(target[:, None].float(), (height, width), mode="nearest-exact")[:, 0].long()
        expected += float(cross_entropy(compared, truth))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_a_step_of_several_scales_does_not_depend_on_how_its_images_are_split(moment):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(4, 3, 33, 33, generator=generator)
    target = torch.randint(0, 3, (4, 33, 33), generator=generator)
    target[0, :20] = 255
    target[3, :, 5:] = 255
    batch = Batch(image, torch.ones(4, 2), torch.arange(4), target)
    settings = SegmentationSettings(scales=(1.0, 0.5), resolution="logits", align_corners=True)
    objective, network = SegmentationObjective(settings, stride=4), Pooled(3)
    whole, _ = objective(network, batch, moment)
    parts = [Batch(image[s], batch.tags[s], batch.index[s], target[s]) for s in (slice(0, 1), slice(1, 4))]
    weights = [objective.weight(part) for part in parts]
    losses = [float(objective(network, part, moment)[0]) for part in parts]
    mean = sum(w * one for w, one in zip(weights, losses, strict=True)) / sum(weights)
    assert mean == pytest.approx(float(whole), rel=1e-5)


def test_self_training_takes_the_strongest_of_logits_times_tags(moment):
    # One pixel a column; background, first and second class. The image has the first class alone.
    logits = torch.tensor([[2.0, -1.0, 0.5], [1.0, -2.0, 1.0], [3.0, -3.0, 3.0]])[None, :, None, :]
    tags = torch.tensor([[1.0, 0.0]])
    # Column 1: the absent class is out, the background wins. 2: all logits are negative, so the absent class, which
    # counts as 0, wins. 3: the first class wins. The label is known for the first column only.
    own = torch.tensor([[[0, 2, 1]]])
    target = torch.tensor([[[1, 255, 255]]], dtype=torch.uint8)
    batch = Batch(torch.zeros(1, 3, 1, 3), tags, torch.arange(1), target)
    plain, _ = SegmentationObjective(SegmentationSettings(), 1)(lambda _i: logits, batch, moment)
    objective = SegmentationObjective(SegmentationSettings(self_training=True), 1)
    logits.requires_grad_()
    loss, figures = objective(lambda _i: logits, batch, moment)
    second = cross_entropy(logits, own)
    torch.testing.assert_close(figures["self_training"], second.detach())
    torch.testing.assert_close(loss.detach(), plain + second.detach())
    loss.backward()
    (gradient,) = torch.autograd.grad(second + cross_entropy(logits, target.long(), ignore_index=255), logits)
    torch.testing.assert_close(logits.grad, gradient)


@pytest.mark.parametrize("scales", [(), (0.5, 0.75), (1.0, 0.5, 0.5), (1.0, 1.5)])
def test_scales_hold_one_and_nothing_twice(scales):
    with pytest.raises(ValidationError, match="scales"):
        SegmentationSettings(scales=scales)
