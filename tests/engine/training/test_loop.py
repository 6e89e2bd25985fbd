"""The loop on a tiny task: it learns the same every time, however it is split, stopped or resumed."""

import dataclasses
import math

import pytest
import torch

from camshaft.engine.data import Augmentation, Loader, Normalization
from camshaft.engine.data.scenes import Scenes, ScenesSettings
from camshaft.engine.errors import Stopped, TrainingError
from camshaft.engine.objectives import Objective, TagsObjective
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.seeds import seed_torch
from camshaft.engine.runtime.stop import StopFlag


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


class Altered(Objective):
    """Tags, with the loss altered at one step."""

    def __init__(self, step, alter):
        self.step, self.alter = step, alter

    def __call__(self, forward, batch, moment):
        loss, figures = TagsObjective()(forward, batch, moment)
        return (self.alter(loss) if moment.step == self.step else loss), figures


GOLDEN = {0: 0.750094, 5: 0.682810, 11: 0.627586, 17: 0.630918}
"""Losses of some steps. They change only when what is computed does: the order of samples, seeds, update, schedule."""


def test_golden_losses(run):
    result = run()
    # float32 rounding differs between CPUs' instruction sets; 18 steps let it grow to no more than this.
    assert {step: run.losses()[step] for step in GOLDEN} == pytest.approx(GOLDEN, rel=1e-4)
    assert (result.steps, result.skipped_steps, result.resumed_at) == (18, 0, 0)
    assert result.figures["loss"] == pytest.approx(sum(run.losses()[12:]) / 6)


def test_the_loop_is_its_plain_twin(run, tiny_network, tiny_source):
    """Each step as anyone would write it, without DeepSpeed."""
    torch.manual_seed(3)
    network = tiny_network().train().to(memory_format=torch.channels_last)
    groups = [
        {"params": [p for name, p in network.named_parameters() if name.endswith("bias")], "lr_scale": 2.0},
        {"params": [p for name, p in network.named_parameters() if not name.endswith("bias")], "lr_scale": 1.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    losses = []
    for step in range(18):
        batch = next(tiny_source().epoch(step // 6, step % 6))
        seed_torch(0, "tiny", "step", step, "micro-batch", 0, "rank", 0)
        scores = network(batch.image.to(memory_format=torch.channels_last)).mean((2, 3))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, batch.tags)
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - step / 18) ** 0.9 * group["lr_scale"]
        optimizer.step()
        losses.append(loss.item())
    run()
    assert run.losses() == pytest.approx(losses, rel=1e-5)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(run.weights()[name], value, rtol=1e-5, atol=1e-6)


def test_the_same_twice_to_the_last_bit(run, another_run):
    run()
    another_run()
    assert_equal(another_run.weights(), run.weights())


def test_a_process_trains_again_after_it_left_the_group(run, another_run):
    run()
    Ranks().leave()
    another_run()
    assert_equal(run.weights(), another_run.weights())


@pytest.mark.parametrize("stage", [1, 2])
def test_zero_stages_learn_as_whole_gradients_do(run, another_run, stage):
    settings = {"gradient_clip": 0.1, "accumulation": 2}
    run(settings)
    another_run({**settings, "zero_stage": stage})
    for name, value in another_run.weights().items():
        torch.testing.assert_close(value, run.weights()[name], rtol=1e-5, atol=1e-7)


def test_accumulation_gives_the_same_steps(run, another_run, tiny_network):
    # Dropout would draw other numbers for other micro-batches.
    run({"batch_size": 8}, network=lambda: tiny_network(dropout=0.0))
    another_run({"batch_size": 8, "accumulation": 4}, network=lambda: tiny_network(dropout=0.0))
    assert another_run.losses() == pytest.approx(run.losses(), rel=1e-4)


def test_clipping_bounds_the_step(run, tiny_network):
    torch.manual_seed(3)
    before = tiny_network().state_dict()
    settings = {"optimizer": {"kind": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}, "iterations": 1}
    run({**settings, "epochs": None, "gradient_clip": 1e-3, "schedule": {"kind": "constant"}})
    moved = torch.cat([(value - before[name]).flatten() for name, value in run.weights().items()])
    # Learning-rate multipliers reach 2 for the biases of this network.
    assert 0 < float(moved.norm()) <= 2.001e-3


def test_stop_saves_and_a_second_run_goes_on_from_there(run, another_run):
    undisturbed = another_run()
    stop = StopFlag()
    with pytest.raises(Stopped, match="stopped by SIGTERM after step 9 of 18"):
        run(stop=stop, each_step=lambda step: stop.set("SIGTERM") if step == 8 else None)
    result = run()
    assert result.resumed_at == 9
    assert result.figures == undisturbed.figures
    assert run.losses() == another_run.losses()
    assert_equal(run.weights(), another_run.weights())


@pytest.mark.parametrize(
    ("settings", "arithmetic"),
    [
        ({"zero_stage": 1, "optimizer": {"kind": "adam", "lr": 1e-2}}, "fp32"),
        ({"zero_stage": 2}, "fp16"),
        ({"optimizer": {"kind": "adam", "lr": 1e-2}, "accumulation": 2}, "bf16"),
    ],
)
def test_resumed_optimiser_states_are_the_same_to_the_last_bit(run, another_run, settings, arithmetic):
    another_run(settings, arithmetic=arithmetic)
    stop = StopFlag()
    with pytest.raises(Stopped):
        run(settings, arithmetic=arithmetic, stop=stop, each_step=lambda step: stop.set("x") if step == 6 else None)
    assert run(settings, arithmetic=arithmetic).resumed_at == 7
    assert_equal(run.weights(), another_run.weights())


@pytest.mark.parametrize("stage", [0, 1])
def test_a_loss_that_is_not_finite_stops_before_the_step(run, stage):
    states = []
    with pytest.raises(TrainingError) as caught:
        run(
            {"zero_stage": stage},
            objective=Altered(7, lambda loss: loss * float("nan")),
            each_step=lambda _step: states.append(run.weights()),
        )
    assert str(caught.value).startswith("step 7, epoch 1, learning rate 0.03")
    assert "not finite: loss nan, accuracy" in str(caught.value)
    assert "images [" in str(caught.value)
    assert len(states) == 7
    assert_equal(run.weights(), states[-1])


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_gradients_that_are_not_finite_stop_before_the_step(run, stage):
    states = []
    with pytest.raises(TrainingError, match=r"step 3, .*gradients are not finite, though the loss is"):
        run(
            {"zero_stage": stage},
            # The square root's slope at 0 is infinite, and 0 times it NaN; the value is finite.
            objective=Altered(3, lambda loss: loss + torch.sqrt(loss * 0)),
            each_step=lambda _step: states.append(run.weights()),
        )
    assert_equal(run.weights(), states[-1])


@pytest.mark.parametrize("stage", [0, 1])
def test_fp16_skips_steps_that_overflow_and_lowers_its_scale(run, stage):
    settings = {"zero_stage": stage, "loss_scale": 2.0**40, "epochs": 10}
    states = []
    result = run(settings, arithmetic="fp16", each_step=lambda _step: states.append(run.weights()))
    skipped = result.skipped_steps
    assert 0 < skipped < 60
    for state in states[:skipped]:
        assert_equal(state, states[0])
    assert not torch.equal(states[skipped]["head.weight"], states[0]["head.weight"])
    assert all(math.isfinite(loss) for loss in run.losses())


def test_fp16_that_overflows_without_any_scale_is_an_error(run):
    with pytest.raises(TrainingError, match="overflow even at loss scale 1"):
        run({"loss_scale": 1.0}, arithmetic="fp16", objective=Altered(2, lambda loss: loss + torch.sqrt(loss * 0)))


@pytest.mark.parametrize("arithmetic", ["bf16", "fp16"])
def test_half_precisions_learn_nearly_as_float32_does(run, another_run, arithmetic):
    run()
    another_run(arithmetic=arithmetic)
    assert another_run.losses() == pytest.approx(run.losses(), rel=0.02)
    assert all(value.dtype == torch.float32 for value in another_run.weights().values())


def test_a_source_without_a_batch(run, tiny_source):
    with pytest.raises(TrainingError, match="no batch to train on"):
        run(source=tiny_source(images=3))


def test_a_step_of_more_micro_batches_than_an_epoch_has_goes_through_several(run, another_run, tiny_source):
    """Two batches in an epoch of the source, five in a step: three of its epochs in one of the training."""
    seen = []

    class Noted(tiny_source):
        def batch(self, index):
            seen.append(index.tolist())
            return super().batch(index)

    settings = {"batch_size": 20, "accumulation": 5, "epochs": 2}
    result = run(settings, source=Noted(images=8))
    assert (result.steps, len(run.losses())) == (2, 2)
    of_source = [batch.index.tolist() for epoch in range(6) for batch in tiny_source(images=8).epoch(epoch)]
    assert seen == of_source[0:5] + of_source[6:11]
    stop = StopFlag()
    stop.set("SIGTERM")
    with pytest.raises(Stopped, match="after step 1 of 2"):
        another_run(settings, source=tiny_source(images=8), stop=stop)
    another_run(settings, source=tiny_source(images=8))
    assert_equal(another_run.weights(), run.weights())


@pytest.mark.parametrize("accumulation", [1, 2, 4, 8])
def test_fewer_images_than_a_batch_train_however_it_is_split(run, tiny_network, accumulation):
    scenes = Scenes(ScenesSettings(kind="scenes", train=5, val=0, height=64, width=64))
    source = Loader(
        scenes,
        scenes.ids("train"),
        scenes.tags("train"),
        augmentation=Augmentation(crop=32),
        normalization=Normalization(),
        batch_size=8 // accumulation,
        seed=1,
        workers=0,
    )
    settings = {"batch_size": 8, "accumulation": accumulation, "epochs": 2}
    assert run(settings, source=source, network=lambda: tiny_network(len(scenes.classes))).steps == 2


def test_the_network_is_free_of_deepspeed_afterwards(run):
    run({"zero_stage": 1})
    parameters = list(run.network.parameters())
    storages = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    assert len(storages) == len(parameters)
    assert all(parameter.is_contiguous() and parameter.grad is None for parameter in parameters)
    run.network(torch.randn(1, 3, 12, 12)).sum().backward()
    assert all(parameter.grad is not None for parameter in parameters)


def test_a_training_shorter_than_an_epoch_has_figures_too(run):
    result = run({"epochs": None, "iterations": 3})
    assert result.figures["loss"] == pytest.approx(sum(run.losses()) / 3)


def test_iterations_end_in_the_middle_of_an_epoch(run):
    result = run({"epochs": None, "iterations": 8})
    assert result.steps == 8
    assert len(run.losses()) == 8
    assert dataclasses.asdict(result)["figures"]["loss"] == pytest.approx(sum(run.losses()[:6]) / 6)
