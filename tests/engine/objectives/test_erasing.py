"""Erasing: eq. 2–5 worked by hand, and where gradients go and where they must not."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils._python_dispatch import TorchDispatchMode

from camshaft.engine.data.batch import Batch
from camshaft.engine.objectives import ErasingObjective, ErasingSettings, Moment
from camshaft.engine.objectives.erasing import ErasingWeight, sample_targets

PAPER = {"maximum": "map", "order": "relu_divide_upsample", "eps": 1e-12}


def settings(**values):
    return ErasingSettings.model_validate({"implementation": "torch", **values})


class MeanGuide(nn.Module):
    """Map of class c: its weight times the image's channel c."""

    def __init__(self, weights=(1.0, 1.0, 1.0)):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weights))
        self.dropout = nn.Dropout(0.9)

    def forward(self, image):
        return self.dropout(image * self.weight[:, None, None])


def one_image(tags=(1.0, 0.0)):
    """Channels are a 2 × 2 image each: 4 in the first, 8 in the second, at every pixel."""
    image = torch.stack([torch.full((2, 2), 4.0), torch.full((2, 2), 8.0), torch.zeros(2, 2)])[None]
    return Batch(image, torch.tensor([tags]), torch.tensor([0]))


MOMENT = Moment(step=0, epoch=0, seed=(0,), index=(0,))


class TwoClassGuide(nn.Module):
    def forward(self, image):
        return image[:, :2]


def softplus(value):
    return math.log1p(math.exp(value))


def test_hand_worked_loss_and_gradient():
    """Map of class 0: [[2, 1], [0, −2]], so the mask is [[1, ½], [0, 0]] and the mean of 1 − mask is 5/8."""
    maps = torch.tensor([[[[2.0, 1.0], [0.0, -2.0]], [[0.0, 0.0], [0.0, 0.0]]]], requires_grad=True)
    objective = ErasingObjective(settings(weight={"start": 2.0, "slope": 0.0}, **PAPER), TwoClassGuide())
    loss, figures = objective(lambda _image: maps, one_image(), MOMENT)
    # The guide's scores of what is left: 4 · 5/8 and 8 · 5/8; the target class 0 is gone from the tags.
    erasing = (softplus(2.5) + softplus(5.0)) / 2
    # Score ¼ for the present class 0 and 0 for the absent one.
    classification = (softplus(-0.25) + softplus(0.0)) / 2
    assert float(figures["erasing"]) == pytest.approx(erasing)
    assert float(figures["classification"]) == pytest.approx(classification)
    assert float(loss.detach()) == pytest.approx(classification + 2 * erasing)
    loss.backward()
    # Through the second pixel's mask m = f / 2 (the first pixel is the maximum): d loss / d f.
    sigma = 1 / (1 + math.exp(-2.5)), 1 / (1 + math.exp(-5.0))
    through_mask = 2 * -(sigma[0] * 4 + sigma[1] * 8) / 2 / 4 / 2
    through_scores = -(1 - 1 / (1 + math.exp(-0.25))) / 2 / 4
    assert float(maps.grad[0, 0, 0, 1]) == pytest.approx(through_mask + through_scores)
    # A negative pixel is erased by nothing: only the score's term is left.
    assert float(maps.grad[0, 0, 1, 1]) == pytest.approx(through_scores)


def test_remaining_classes_reach_the_map_through_the_mask():
    """With both classes present the target's map should spare the other class: its gradient changes sign."""
    gradients = {}
    for remaining in (0.0, 1.0):
        maps = torch.tensor([[[[2.0, 1.0], [0.0, -2.0]], [[-9.0, -9.0], [-9.0, -9.0]]]], requires_grad=True)

        class OnlySecondClass(nn.Module):
            def forward(self, image):
                return torch.cat([torch.full_like(image[:, :1], -50.0), image[:, 1:2]], 1)

        objective = ErasingObjective(settings(weight={"start": 1.0, "slope": 0.0}, **PAPER), OnlySecondClass())
        batch = one_image((1.0, remaining))
        # Only the erasing term: the target class is 0 whatever was drawn, since the draw is seeded by the step.
        moment = next(
            Moment(step, 0, (step,), (0,))
            for step in range(99)
            if sample_targets(batch.tags, Moment(step, 0, (step,), (0,))) == 0
        )
        loss, _ = objective(lambda _image, maps=maps: maps, batch, moment)
        (gradient,) = torch.autograd.grad(loss, maps)
        scores = maps.mean((2, 3)).detach().requires_grad_()
        (score,) = torch.autograd.grad(binary_cross_entropy_with_logits(scores, batch.tags), scores)
        gradients[remaining] = float(gradient[0, 0, 0, 1] - score[0, 0] / 4)
    assert gradients[0.0] < 0 < gradients[1.0]


def test_class_agnostic_erases_all_classes_and_expects_none(batch, moment):
    maps = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    objective = ErasingObjective(settings(erasing="class_agnostic", **PAPER), MeanGuide())
    _, figures = objective(lambda _image: maps, batch, moment)
    positive = torch.relu(maps)
    masks = positive / positive.amax((2, 3), keepdim=True) * batch.tags[:, :, None, None]
    full = torch.nn.functional.interpolate(masks, (8, 8), mode="bilinear", align_corners=False)
    left = batch.image * (1 - full.amax(1, keepdim=True))
    per_image = binary_cross_entropy_with_logits(left.mean((2, 3)), torch.zeros(4, 3), reduction="none").mean(1)
    expected = (per_image * torch.tensor([1.0, 1, 0, 1])).sum() / 4
    torch.testing.assert_close(figures["erasing"], expected)


@pytest.mark.parametrize("erasing", ["class_specific", "class_agnostic"])
def test_an_image_without_tags_adds_no_erasing_term(erasing, moment):
    network = nn.Conv2d(3, 3, 1)
    image = torch.rand(4, 3, 8, 8)
    untagged = Batch(image, torch.zeros(4, 3), torch.tensor([7, 1, 9, 3]))
    objective = ErasingObjective(settings(erasing=erasing), MeanGuide())
    loss, figures = objective(network, untagged, moment)
    assert float(figures["erasing"]) == 0
    torch.testing.assert_close(loss.detach(), figures["classification"])
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


def test_a_fixed_guide_gets_no_gradient_is_not_trained_and_draws_no_dropout(batch, moment):
    guide = MeanGuide().train()
    network = nn.Conv2d(3, 3, 1)
    objective = ErasingObjective(settings(), guide)
    assert not guide.training
    assert not any(parameter.requires_grad for parameter in guide.parameters())
    first, _ = objective(network, batch, moment)
    second, _ = objective(network, batch, moment)
    assert float(first.detach()) == float(second.detach())
    first.backward()
    assert guide.weight.grad is None
    assert float(network.weight.grad.abs().sum()) > 0


class BackwardConvolutions(TorchDispatchMode):
    """Which gradients each convolution computes on the way back: (input, weight, bias)."""

    def __init__(self):
        super().__init__()
        self.masks = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.convolution_backward.default:
            self.masks.append(tuple(args[-1]))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("guidance", ["fixed", "learning"])
def test_the_erasing_term_computes_the_guide_s_input_gradients_and_no_weight_gradients(guidance, batch, moment):
    guide = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    maps = torch.rand(4, 3, 4, 4, requires_grad=True)
    loss, figures = ErasingObjective(settings(guidance=guidance), guide)(lambda _image: maps, batch, moment)
    with BackwardConvolutions() as seen:
        loss.backward()
    # A guide that learns comes back through its own two layers once more, for its own term: weights, and no image.
    own = [(True, True, True), (False, True, True)] if guidance == "learning" else []
    assert sorted(seen.masks) == sorted([(True, False, False)] * 2 + own)
    assert maps.grad.abs().sum() > 0
    assert ("guide" in figures) == (guidance == "learning")


def test_a_guide_that_learns_is_taught_whole_images_and_judges_without_dropout(batch, moment):
    """Its gradient is that of its own classification: what is left teaches the network alone."""
    torch.manual_seed(3)
    guide = MeanGuide()
    maps = torch.rand(4, 3, 4, 4, requires_grad=True)
    torch.manual_seed(4)
    loss, figures = ErasingObjective(settings(guidance="learning"), guide)(lambda _image: maps, batch, moment)
    loss.backward()
    torch.manual_seed(4)
    alone = MeanGuide().train()
    lesson = binary_cross_entropy_with_logits(alone(batch.image).mean((2, 3)), batch.tags)
    lesson.backward()
    torch.testing.assert_close(figures["guide"], lesson.detach())
    torch.testing.assert_close(guide.weight.grad, alone.weight.grad)
    # And the network's own two terms are those under a fixed guide.
    fixed_maps = maps.detach().clone().requires_grad_()
    fixed, fixed_figures = ErasingObjective(settings(), MeanGuide())(lambda _image: fixed_maps, batch, moment)
    fixed.backward()
    torch.testing.assert_close(figures["erasing"], fixed_figures["erasing"])
    torch.testing.assert_close(maps.grad, fixed_maps.grad)


def test_a_guide_s_normalisation_may_learn_along(batch, moment):
    """Judging takes the statistics that stand after the lesson, and its backward pass finds them unchanged."""
    torch.manual_seed(5)
    guide = nn.Sequential(nn.BatchNorm2d(3, momentum=0.5), nn.Conv2d(3, 3, 1, bias=False))
    maps = torch.rand(4, 3, 4, 4, requires_grad=True)
    loss, _ = ErasingObjective(settings(guidance="learning"), guide)(lambda _image: maps, batch, moment)
    loss.backward()
    expected = batch.image.mean((0, 2, 3)) / 2
    torch.testing.assert_close(guide[0].running_mean, expected)
    assert guide[0].weight.grad.abs().sum() > 0
    fixed_maps = maps.detach().clone().requires_grad_()
    fixed, _ = ErasingObjective(settings(), guide)(lambda _image: fixed_maps, batch, moment)
    fixed.backward()
    torch.testing.assert_close(maps.grad, fixed_maps.grad)


@pytest.mark.parametrize("maximum", ["map", "batch"])
def test_the_mask_s_maximum_is_the_map_s_own_or_the_batch_s(maximum):
    """Maps of 1 and 4 everywhere: each erases all of its image, or the first erases a quarter."""
    maps = torch.stack([torch.full((2, 2, 2), 1.0), torch.full((2, 2, 2), 4.0)]).requires_grad_()
    batch = Batch(torch.full((2, 3, 2, 2), 8.0), torch.tensor([[1.0, 0.0]] * 2), torch.tensor([0, 1]))
    seen = []

    class Watching(TwoClassGuide):
        def forward(self, image):
            seen.append(image.detach())
            return super().forward(image)

    objective = ErasingObjective(settings(maximum=maximum, order="relu_divide_upsample", eps=1e-12), Watching())
    objective(lambda _image: maps, batch, Moment(0, 0, (0,), (0, 1)))
    left = 0.0 if maximum == "map" else 6.0
    torch.testing.assert_close(seen[0][:, 0, 0, 0], torch.tensor([left, 0.0]))


def test_an_image_of_one_class_is_erased_alike_either_way(batch):
    """Of an image with one class, "the proposed CSE method is the same as the CAE method": Section 5.3."""
    one = Batch(batch.image[1:2], batch.tags[1:2], batch.index[1:2])
    maps = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    figures = [
        ErasingObjective(settings(erasing=erasing), MeanGuide())(lambda _image: maps, one, Moment(0, 0, (0,), (1,)))[1]
        for erasing in ("class_specific", "class_agnostic")
    ]
    assert float(figures[0]["erasing"]) == float(figures[1]["erasing"])


def test_targets_are_drawn_without_reading_tags_back_to_the_host():
    """Tags on the meta device have no values: whoever asked for one would fail."""
    drawn = sample_targets(torch.zeros(4, 3, device="meta"), Moment(0, 0, (0,), (0, 1, 2, 3)))
    assert (drawn.device.type, drawn.shape, drawn.dtype) == ("meta", (4,), torch.int64)


def test_shared_guidance_trains_the_network_on_what_is_left_too(batch, moment):
    network = nn.Conv2d(3, 3, 1)
    seen = []

    def forward(image):
        seen.append(image)
        return network(image)

    loss, figures = ErasingObjective(settings(guidance="shared"))(forward, batch, moment)
    assert len(seen) == 2
    assert seen[1].requires_grad
    assert not torch.equal(seen[0], seen[1])
    loss.backward()
    assert float(figures["erasing"]) > 0


def test_the_weight_follows_the_epoch(batch):
    assert ErasingWeight().at(0) == 0.3
    assert ErasingWeight().at(14) == pytest.approx(1.0)
    assert ErasingWeight(start=0.3, slope=0.0).at(9) == 0.3
    objective = ErasingObjective(settings(), MeanGuide())
    _, figures = objective(nn.Conv2d(3, 3, 1), batch, Moment(0, 3, (0,), (7, 1, 9, 3)))
    assert float(figures["weight"]) == pytest.approx(0.45)


def test_a_weight_that_would_become_negative_is_refused():
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        settings(weight={"start": 0.3, "slope": -0.05})


def test_targets_depend_on_step_and_image_alone(batch, moment):
    whole = sample_targets(batch.tags, moment)
    assert whole[2] == -1
    assert all(batch.tags[i, c] == 1 for i, c in enumerate(whole.tolist()) if c >= 0)
    order = [3, 0]
    part = Moment(moment.step, moment.epoch, moment.seed, tuple(moment.index[i] for i in order))
    assert sample_targets(batch.tags[order], part).tolist() == whole[order].tolist()
    assert sample_targets(batch.tags, moment).tolist() == whole.tolist()


def test_each_class_present_is_drawn_as_often():
    tags = torch.tensor([[1.0, 0, 1, 1]])
    drawn = torch.cat([sample_targets(tags, Moment(s, 0, (0, "step", s), (0,))) for s in range(900)])
    counts = torch.bincount(drawn, minlength=4)
    assert counts[1] == 0
    # Five standard deviations of a binomial of 900 at 1/3.
    assert ((counts[[0, 2, 3]] - 300).abs() < 5 * (900 * 2 / 9) ** 0.5).all()


def test_images_of_a_step_and_following_steps_draw_independently():
    """χ² of how often the pairs (image, next image) and (step, next step) fall on each pair of four classes."""
    tags, index = torch.ones(80, 4), tuple(range(80))
    drawn = torch.stack([sample_targets(tags, Moment(s, 0, (0, "step", s), index)) for s in range(80)])
    for pairs in (drawn[:, 0::2] * 4 + drawn[:, 1::2], drawn[0::2] * 4 + drawn[1::2]):
        counts = torch.bincount(pairs.flatten(), minlength=16).double()
        # 99.9 % of χ² with 15 degrees of freedom.
        assert float(((counts - 200) ** 2 / 200).sum()) < 37.7


@pytest.mark.parametrize(
    ("guidance", "guide", "said"),
    [
        ("fixed", None, "needs a guide"),
        ("learning", None, "needs a guide"),
        ("shared", MeanGuide(), "takes no guide"),
    ],
)
def test_guide_and_guidance_go_together(guidance, guide, said):
    with pytest.raises(ValueError, match=said):
        ErasingObjective(settings(guidance=guidance), guide)
