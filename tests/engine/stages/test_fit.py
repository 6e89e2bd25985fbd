"""What a training stage checks before a run begins."""

from pathlib import Path

import pytest
from torch import nn

from camshaft.engine.errors import RecipeError
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.stages.classify import Classify

LITE = {"name": "efficientnet_lite0", "weights": None}
ALL = ["stem", *(f"stage{number}" for number in range(1, 8)), "head"]


def check(backbone: dict[str, object]) -> None:
    stage = Classify.model_validate(
        {"id": "a", "kind": "classify", "epochs": 1, "backbone": backbone, "checkpoint_activations": True}
    )
    stage.check(["thing"], Path(), Ranks())


def test_recomputation_without_effect_is_an_error() -> None:
    check({**LITE, "freeze": ALL[:-1]})
    with pytest.raises(RecipeError, match="checkpoint_activations: has no effect: none of the backbone learns"):
        check({**LITE, "freeze": ALL})
    imported = {
        "name": f"{nn.Conv2d.__module__}:Conv2d",
        "arguments": {"in_channels": 3, "out_channels": 4, "kernel_size": 3, "padding": 1},
    }
    with pytest.raises(RecipeError, match="checkpoint_activations: has no effect: an imported network's blocks"):
        check(imported)
