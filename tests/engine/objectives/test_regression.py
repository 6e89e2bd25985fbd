"""Refinement learning's loss, worked by hand: at the output, at the input, and with the strongest map alone."""

import pytest
import torch

from camshaft.engine.data.batch import Batch
from camshaft.engine.objectives import RegressionObjective, RegressionSettings


def stored(maps):
    target = torch.tensor(maps, dtype=torch.float32)[None]
    classes, height, width = target.shape[1:]
    return Batch(torch.zeros(1, 3, height, width), torch.ones(1, classes), torch.arange(1), target)


def loss_of(prediction, batch, moment, **settings):
    maps = torch.tensor(prediction, dtype=torch.float32)[None]
    loss, figures = RegressionObjective(RegressionSettings(**settings))(lambda _image: maps, batch, moment)
    return float(loss), float(figures["absolute_error"])


def test_aligned_features_meet_the_pixels_on_which_they_stand(moment):
    batch = stored([[[0.1, 0.7, 0.3, 0.9, 0.5]] * 3])
    # Features at stride 2 stand on the first, third and fifth pixel: 0.1, 0.3, 0.5.
    loss, absolute = loss_of([[[0.1, 0.3, 1.5], [0.1, 0.3, 0.5]]], batch, moment)
    assert loss == pytest.approx(1.0 / 6)
    assert absolute == pytest.approx(1.0 / 6)


def test_features_that_are_areas_meet_the_mean_of_their_pixels(moment):
    batch = stored([[[0.0, 0.4, 1.0, 0.0], [0.4, 0.0, 0.0, 0.0]]])
    loss, absolute = loss_of([[[0.0, 0.25]]], batch, moment, align_corners=False)
    assert (loss, absolute) == (pytest.approx(0.04 / 2), pytest.approx(0.2 / 2))


@pytest.mark.parametrize(("aligned", "upsampled"), [(True, [0.0, 0.5, 1.0]), (False, [0.0, 0.5, 1.0])])
def test_at_the_input_the_prediction_is_upsampled(moment, aligned, upsampled):
    batch = stored([[[0.0, 0.0, 0.0]]])
    loss, _ = loss_of([[[0.0, 1.0]]], batch, moment, resolution="input", align_corners=aligned)
    assert loss == pytest.approx(sum(value**2 for value in upsampled) / 3)


def test_at_the_input_alignment_moves_what_lies_between(moment):
    batch = stored([[[0.0, 0.0, 0.0, 0.0]]])
    aligned, _ = loss_of([[[0.0, 1.0]]], batch, moment, resolution="input")
    areas, _ = loss_of([[[0.0, 1.0]]], batch, moment, resolution="input", align_corners=False)
    assert aligned == pytest.approx((1 / 9 + 4 / 9 + 1) / 4)
    assert areas == pytest.approx((1 / 16 + 9 / 16 + 1) / 4)


def test_the_prediction_has_no_bounds_and_classes_that_lack_should_be_zero(moment):
    batch = stored([[[1.0]], [[0.0]]])
    loss, _ = loss_of([[[1.5]], [[-2.0]]], batch, moment)
    assert loss == pytest.approx((0.25 + 4.0) / 2)


def test_the_strongest_map_alone_is_kept(moment):
    # Pixels: the first class is stronger; the second; both alike; neither.
    batch = stored([[[0.8, 0.2, 0.5, 0.0]], [[0.6, 0.9, 0.5, 0.0]]])
    kept = [[[0.8, 0.0, 0.5, 0.0]], [[0.0, 0.9, 0.5, 0.0]]]
    assert loss_of(kept, batch, moment, strongest_only=True) == (0.0, 0.0)
    loss, _ = loss_of(kept, batch, moment)
    assert loss == pytest.approx((0.2**2 + 0.6**2) / 8)


def test_strongest_is_decided_before_maps_are_brought_to_the_output(moment):
    batch = stored([[[1.0, 0.2]], [[0.5, 0.6]]])
    loss, _ = loss_of([[[0.5]], [[0.3]]], batch, moment, strongest_only=True, align_corners=False)
    assert loss == pytest.approx(0)


def test_every_image_is_as_many_terms_and_the_gradient_is_the_mean_squared_error_s(moment):
    generator = torch.Generator().manual_seed(0)
    target, maps = torch.rand(2, 2, 3, 9, 9, generator=generator)
    batch = Batch(torch.zeros(2, 3, 9, 9), torch.ones(2, 3), torch.arange(2), target)
    maps.requires_grad_()
    objective = RegressionObjective(RegressionSettings())
    loss, _ = objective(lambda _image: maps, batch, moment)
    loss.backward()
    torch.testing.assert_close(maps.grad, 2 * (maps.detach() - target) / maps.numel())
    assert objective.weight(batch) is None


@pytest.mark.parametrize("target", [None, torch.zeros(4, 8, 8), torch.zeros(4, 5, 8, 8)])
def test_a_batch_without_maps_of_the_classes_is_refused(batch, moment, target):
    batch = Batch(batch.image, batch.tags, batch.index, target)
    with pytest.raises(ValueError, match=r"regression needs maps \(B, 3, H, W\)"):
        RegressionObjective(RegressionSettings())(lambda _image: torch.zeros(4, 3, 4, 4), batch, moment)
