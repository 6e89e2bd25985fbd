"""Options that change how a training computes: what else DeepSpeed is told, torch.compile, whose optimiser runs."""

import json
import logging
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from camshaft.engine.errors import TrainingError
from camshaft.engine.models import ClassifierSettings, build_classifier
from camshaft.engine.objectives import ErasingObjective, ErasingSettings
from camshaft.engine.stages.fit import Together
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


@pytest.mark.parametrize("guidance", ["fixed", "learning", "shared"])
def test_recomputed_activations_learn_the_same_to_the_last_bit(run, another_run, guidance):
    """A small network and its guide, under erasing; statistics that learn move once a pass."""
    settings = ClassifierSettings.model_validate(
        {"backbone": {"name": "efficientnet_lite0", "weights": None, "head": False, "batch_norm": "train"}}
    )
    calls = []

    def trained(run, **options):
        calls.clear()
        guide = None if guidance == "shared" else build_classifier(settings, ["a", "b", "c"], Path())
        objective = ErasingObjective(ErasingSettings(guidance=guidance), guide)

        def network():
            torch.manual_seed(0)
            classifier = build_classifier(settings, ["a", "b", "c"], Path())
            for each in (classifier, guide):
                if each is not None:
                    nn.init.ones_(each.head.weight)
                    each.backbone.get_submodule("_blocks.5").register_forward_pre_hook(lambda *_: calls.append(1))
            return classifier if guidance != "learning" else Together(classifier, guide)

        run({"iterations": 2, "epochs": None, **options}, objective=objective, network=network)
        return run.losses(), run.weights(), len(calls)

    torch.manual_seed(1)
    plain = trained(run)
    torch.manual_seed(1)
    again = trained(another_run, checkpoint_activations=True)
    assert again[0] == plain[0]
    for name, value in plain[1].items():
        assert torch.equal(again[1][name], value), name
    # Each pass of network and guide through a block, and once more in the backward pass.
    assert again[2] == 2 * plain[2] > 0


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
