"""The affinity objective: equal to a loop over pairs, in value and gradient; each term a mean over all its pairs."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from camshaft.engine.data.batch import Batch
from camshaft.engine.objectives import AffinityObjective, AffinitySettings
from camshaft.engine.objectives.affinity import labels_on_grid, pair_kinds


def labelled(target):
    target = torch.as_tensor(np.asarray(target), dtype=torch.uint8)
    return Batch(
        torch.zeros(len(target), 3, *target.shape[1:]), torch.zeros(len(target), 2), torch.arange(len(target)), target
    )


def objective(stride=1, **settings):
    return AffinityObjective(AffinitySettings(**settings), stride, align_corners=True)


def pairs_one_by_one(labels, radius, border):
    """Each unordered pair of near pixels in a list of (kind, first pixel, second), from the definitions alone."""
    height, width = labels.shape
    keep = radius - 1 if border == "psa" else 0
    found = []
    for y, x in product(range(height), range(width)):
        for dy, dx in product(range(radius), range(-radius, radius + 1)):
            if (dy == 0 and dx <= 0) or dy * dy + dx * dx >= radius * radius:
                continue
            if not (y + dy < height and 0 <= x + dx < width and y < height - keep and keep <= x < width - keep):
                continue
            a, b = int(labels[y, x]), int(labels[y + dy, x + dx])
            if 255 not in (a, b):
                found.append(((1 if a == 0 else 2) if a == b else 3, (y, x), (y + dy, x + dx)))
    return found


LABELS = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31))


@given(LABELS, st.integers(2, 5), st.sampled_from(["psa", "none"]))
def test_kinds_of_pairs_are_those_of_a_loop(size_and_seed, radius, border):
    height, width, seed = size_and_seed
    labels = np.random.default_rng(seed).choice(np.array([0, 1, 2, 255], np.uint8), (height, width))
    kinds = pair_kinds(torch.from_numpy(labels)[None], radius, border)
    expected = [kind for kind, _, _ in pairs_one_by_one(labels, radius, border)]
    assert sorted(kinds[kinds > 0].tolist()) == sorted(expected)


def test_kinds_stand_at_their_first_pixel_and_offset():
    kinds = pair_kinds(torch.tensor([[[0, 0, 1], [255, 1, 1]]], dtype=torch.uint8), 2, "none")
    # Radius 2: the offsets are (0, 1), (1, -1), (1, 0), (1, 1), all with dy² + dx² < 4.
    assert kinds[0].tolist() == [
        [[1, 3, 0], [0, 2, 0]],
        [[0, 0, 2], [0, 0, 0]],
        [[0, 3, 2], [0, 0, 0]],
        [[3, 3, 0], [0, 0, 0]],
    ]


def test_hand_worked_loss(moment):
    # Three pixels in a row: background, background, a class. Mean differences of the two channels: ln 2 and ln 4.
    embedding = torch.tensor([[0.0, 2 * math.log(2), 2 * math.log(2)], [0.0, 0.0, math.log(16)]]).reshape(1, 2, 1, 3)
    settings = AffinitySettings(radius=2, border="none", eps=1e-12)
    terms, figures = AffinityObjective(settings, 1, align_corners=True)(
        lambda _i: embedding, labelled([[[0, 0, 3]]]), moment
    )
    # Affinities 1/2 (both background) and 1/4 (unequal): -ln(1/2) / 4, nothing, -ln(3/4) / 2.
    assert terms.tolist() == pytest.approx([math.log(2) / 4, 0, math.log(4 / 3) / 2])
    assert {name: float(value) for name, value in figures.items()} == pytest.approx(
        {"background": math.log(2), "foreground": 0, "negative": math.log(4 / 3),
         "background_pairs": 1, "foreground_pairs": 0, "negative_pairs": 1}
    )  # fmt: skip


@pytest.mark.parametrize("border", ["psa", "none"])
def test_loss_and_gradient_are_those_of_a_loop_over_pairs(moment, border):
    generator = torch.Generator().manual_seed(1)
    embedding = torch.randn(2, 3, 9, 11, generator=generator, requires_grad=True)
    labels = torch.randint(0, 4, (2, 9, 11), generator=generator)
    labels[labels == 3] = 255
    terms, _ = objective(radius=3, border=border)(lambda _i: embedding, labelled(labels), moment)
    terms.sum().backward()

    twin = embedding.detach().double().requires_grad_()
    costs = {1: [], 2: [], 3: []}
    for image in range(2):
        for kind, p, q in pairs_one_by_one(labels[image].numpy(), 3, border):
            affinity = torch.exp(-(twin[(image, slice(None), *p)] - twin[(image, slice(None), *q)]).abs().mean())
            costs[kind].append(-torch.log(1 + 1e-5 - affinity) if kind == 3 else -torch.log(affinity + 1e-5))
    assert all(costs.values())
    means = [torch.stack(costs[kind]).mean() for kind in (1, 2, 3)]
    loss = means[0] / 4 + means[1] / 4 + means[2] / 2
    loss.backward()
    assert float(terms.detach().sum()) == pytest.approx(float(loss.detach()), rel=1e-5)
    torch.testing.assert_close(embedding.grad.double(), twin.grad, rtol=1e-4, atol=1e-7)


def test_equal_embeddings_of_unequal_labels_have_a_finite_loss_and_gradient(moment):
    embedding = torch.ones(1, 4, 9, 9, requires_grad=True)
    labels = torch.zeros(1, 9, 9)
    labels[:, :, 5:] = 2
    terms, _ = objective()(lambda _i: embedding, labelled(labels), moment)
    terms.sum().backward()
    assert float(terms.detach()[2]) == pytest.approx(-math.log(1e-5) / 2, rel=2e-2)
    assert torch.isfinite(embedding.grad).all()


def test_no_pair_gives_zero_and_a_zero_gradient(moment):
    embedding = torch.randn(2, 3, 6, 6, requires_grad=True)
    batch = labelled(torch.full((2, 6, 6), 255))
    terms, figures = objective(border="none")(lambda _i: embedding, batch, moment)
    terms.sum().backward()
    assert terms.tolist() == [0, 0, 0]
    assert float(embedding.grad.abs().max()) == 0
    assert objective().weight(batch) == (0, 0, 0)
    assert all(float(value) == 0 for value in figures.values())


def test_weights_count_pairs_so_that_parts_of_a_batch_add_up(moment):
    generator = torch.Generator().manual_seed(2)
    embedding = torch.randn(4, 3, 10, 12, generator=generator)
    labels = torch.randint(0, 3, (4, 10, 12), generator=generator)
    labels[0, :, :9] = 255
    task = objective(radius=3)
    whole, _ = task(lambda _i: embedding, labelled(labels), moment)
    parts = [slice(0, 1), slice(1, 4)]
    counts = torch.tensor([task.weight(labelled(labels[part])) for part in parts])
    assert counts[0].tolist() != counts[1].tolist()
    losses = torch.stack([task(lambda _i, p=part: embedding[p], labelled(labels[part]), moment)[0] for part in parts])
    torch.testing.assert_close((losses * counts).sum(0) / counts.sum(0), whole)


def test_labels_are_read_where_features_stand():
    labels = torch.arange(9 * 10, dtype=torch.uint8).reshape(1, 9, 10)
    assert labels_on_grid(labels, 4, align_corners=True)[0].tolist() == [[0, 4, 8], [40, 44, 48], [80, 84, 88]]
    aligned = labels_on_grid(labels[:, :8, :8], 4, align_corners=False)[0]
    assert aligned.tolist() == [[22, 26], [62, 66]]
    assert labels_on_grid(labels, 4, align_corners=False).shape == (1, 3, 3)


def test_a_batch_without_targets_is_refused(batch, moment):
    with pytest.raises(ValueError, match="need a batch with label images"):
        objective()(lambda _i: torch.zeros(4, 2, 8, 8), batch, moment)
