"""A user's DeepSpeed configuration adds to the recipe's and can't contradict it."""

import json
from pathlib import Path

import pytest

from camshaft.engine.errors import TrainingError
from camshaft.engine.training import TrainingSettings
from camshaft.engine.training.deepspeed_engine import deepspeed_config
from camshaft.engine.training.user_config import merged, read_user_config


def config_of(folder, own, **settings):
    (folder / "own.json").write_text(json.dumps(own))
    values = {"epochs": 1, "batch_size": 8, "deepspeed": {"config": "own.json"}, **settings}
    return deepspeed_config(TrainingSettings.model_validate(values), 2, folder)


def test_it_adds_section_by_section(tmp_path):
    own = {"zero_optimization": {"overlap_comm": True, "stage": 1}, "wall_clock_breakdown": True, "train_batch_size": 8}
    plain = deepspeed_config(TrainingSettings(epochs=1, batch_size=8, zero_stage=1), 2)
    found = config_of(tmp_path, own, zero_stage=1)
    assert found.pop("wall_clock_breakdown") is True
    assert found["zero_optimization"].pop("overlap_comm") is True
    assert found == plain


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"train_batch_size": 16}, r"train_batch_size: 16 conflicts with batch_size, which gives 8; leave it out"),
        ({"zero_optimization": {"stage": 2}}, r"zero_optimization\.stage: 2 conflicts with zero_stage, which gives 0"),
        ({"zero_optimization": 2}, r"zero_optimization: 2 conflicts with the engine"),
        ({"optimizer": {"type": "Adam"}}, r"conflicts with optimizer; leave it out"),
        ({"gradient_clipping": 1.0}, r"gradient_clipping: 1\.0 conflicts with gradient_clip;"),
        ({"bf16": {"enabled": True}}, r"conflicts with the recipe's precision"),
        ({"steps_per_print": 5}, r"steps_per_print: 5 conflicts with the engine, which gives null"),
    ],
)
def test_a_conflict_names_both(tmp_path, own, said):
    with pytest.raises(TrainingError, match=r"own\.json: .*" + said):
        config_of(tmp_path, own)


def test_files_that_are_none(tmp_path):
    with pytest.raises(TrainingError, match=r"none\.json: there is no such file \(deepspeed\.config\)"):
        read_user_config(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(TrainingError, match=r"bad\.json: not a JSON file"):
        read_user_config(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(TrainingError, match=r"list\.json: must hold a JSON object \(deepspeed\.config\), not a list"):
        read_user_config(tmp_path / "list.json")


def test_the_recipe_s_own_values_stay_as_they_are():
    config = {"a": {"b": 1}}
    assert merged(config, {"a": {"c": 2}}, Path("own.json")) == {"a": {"b": 1, "c": 2}}
    assert config == {"a": {"b": 1}}
