"""Settings that can't be meant are refused; batches split over ranks."""

import pytest
from pydantic import ValidationError

from camshaft.engine.errors import TrainingError
from camshaft.engine.training import TrainingSettings


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "either epochs or iterations"),
        ({"epochs": 1, "iterations": 1}, "either epochs or iterations"),
        ({"epochs": 1, "optimizer": {"kind": "sgd", "momentum": 0, "nesterov": True}}, "nesterov needs a momentum"),
        ({"epochs": 1, "checkpoint_every": {"steps": 1, "seconds": 1}}, "either steps or seconds"),
        ({"epochs": 1, "checkpoint_every": {}}, "either steps or seconds"),
        ({"epochs": 1, "zero_stage": 3}, "0, 1 or 2"),
        ({"epochs": 1, "compile": "inductor", "checkpoint_activations": True}, "activations does not go with compile"),
        ({"epochs": 1, "optimizer": {"kind": "adam", "momentum": 0.9}}, "momentum"),
        ({"epochs": 1, "schedule": {"kind": "poly", "gamma": 0.9}}, "gamma"),
    ],
)
def test_refused(values, said):
    with pytest.raises(ValidationError, match=said):
        TrainingSettings.model_validate(values)


def test_a_batch_splits_over_ranks_and_accumulation():
    settings = TrainingSettings(epochs=1, batch_size=24, accumulation=3)
    assert settings.micro_batch(1) == 8
    assert settings.micro_batch(4) == 2
    with pytest.raises(TrainingError, match="batch_size 24 does not split over 5 rank"):
        settings.micro_batch(5)


def test_epochs_and_iterations_give_the_number_of_steps():
    assert TrainingSettings(epochs=3).total_steps(7) == 21
    assert TrainingSettings(iterations=5).total_steps(7) == 5


def test_identity_leaves_out_what_does_not_change_the_result():
    settings = TrainingSettings(epochs=3)
    same = TrainingSettings(epochs=3, log_every=1, keep_checkpoints=9, checkpoint_every={"steps": 1})
    assert settings.identity() == same.identity()
    assert settings.identity() != TrainingSettings(epochs=4).identity()
