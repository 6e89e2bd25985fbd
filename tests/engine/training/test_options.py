"""Options that change how a training computes: what else DeepSpeed is told, torch.compile, whose optimiser runs."""

import json
import logging
import os

import pytest
import torch

from camshaft.engine.errors import TrainingError
from camshaft.engine.training import TrainingSettings
from camshaft.engine.training.optimizer import build_optimizer
from camshaft.engine.training.settings import Sgd
from camshaft.kernels import choice


def test_training_with_a_user_s_own_configuration(run, another_run, tmp_path):
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"prescale_gradients": False, "zero_optimization": {"stage": 0}}))
    run({"iterations": 3, "epochs": None})
    # An absolute path needs no folder to start from.
    another_run({"iterations": 3, "epochs": None, "deepspeed": {"config": os.fspath(own)}})
    assert run.losses() == another_run.losses()
    own.write_text(json.dumps({"train_batch_size": 3}))
    with pytest.raises(TrainingError, match="conflicts with batch_size, which gives 4"):
        another_run({"iterations": 5, "epochs": None, "deepspeed": {"config": os.fspath(own)}})


def test_a_compiled_network_learns_the_same(run, another_run):
    run({"iterations": 4, "epochs": None})
    another_run({"iterations": 4, "epochs": None, "compile": "aot_eager"})
    assert another_run.network._compiled_call_impl is not None
    torch.testing.assert_close(run.losses(), another_run.losses(), rtol=1e-4, atol=1e-4)
    assert set(run.weights()) == set(another_run.weights())


def test_options_at_their_defaults_change_no_identity():
    identity = TrainingSettings(epochs=3).identity()
    assert "compile" not in identity
    assert "deepspeed" not in identity
    assert TrainingSettings(epochs=3, compile="inductor").identity()["compile"] == "inductor"


def test_which_optimizer_runs_is_logged(caplog):
    choice._said.clear()
    groups = [
        {"name": "all", "params": [torch.nn.Parameter(torch.ones(2))], "lr_scale": 1.0, "weight_decay_scale": 1.0}
    ]
    with caplog.at_level(logging.INFO, "camshaft.kernels"), choice.recorded() as taken:
        optimizer = build_optimizer(Sgd(), groups)
    assert type(optimizer) is torch.optim.SGD
    assert "optimizer: torch fused (apex: works on GPUs only)" in caplog.text
    assert taken["optimizer"] == "torch fused"
