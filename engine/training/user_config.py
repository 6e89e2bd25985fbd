"""A user's own DeepSpeed configuration, laid over the one that the recipe's settings give."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from camshaft.engine.errors import TrainingError
from camshaft.engine.recipe.paths import RecipePath
from camshaft.engine.recipe.settings import Settings

DECIDED = {
    "train_batch_size": "batch_size",
    "train_micro_batch_size_per_gpu": "batch_size",
    "gradient_accumulation_steps": "accumulation",
    "zero_optimization.stage": "zero_stage",
    "zero_optimization.offload_optimizer": "zero_stage",
    "zero_optimization.offload_param": "zero_stage",
    "zero_allow_untested_optimizer": "optimizer",
    "optimizer": "optimizer",
    "scheduler": "schedule",
    "gradient_clipping": "gradient_clip",
    "fp16": "the recipe's precision",
    "bf16": "the recipe's precision",
    "amp": "the recipe's precision",
    "torch_autocast": "the recipe's precision",
    "checkpoint.tag_validation": "checkpoint_every",
    "compile": "compile",
}
"""Keys of DeepSpeed's configuration that a recipe decides, and the setting that does."""


class DeepSpeedSettings(Settings):
    """What is passed on to DeepSpeed."""

    config: Annotated[Path, RecipePath()]
    """A JSON file in DeepSpeed's own terms, relative to the recipe; it can't change what the recipe decides."""


def read_user_config(path: Path) -> dict[str, Any]:
    """A DeepSpeed configuration from a JSON file.

    Raises:
        TrainingError: there is no such file, or it holds no JSON object.
    """
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: there is no such file (deepspeed.config)") from error
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: not a JSON file (deepspeed.config): {error}") from error
    if not isinstance(values, dict):
        raise TrainingError(f"{path}: must hold a JSON object (deepspeed.config), not a {type(values).__name__}")
    return values


def merged(config: Mapping[str, Any], own: Mapping[str, Any], file: Path, place: str = "") -> dict[str, Any]:
    """`config` with the values of `own` added, section by section.

    Args:
        config: what the recipe's settings give.
        own: what the user's file says.
        file: its path, for messages.
        place: the section in which both stand, with a dot at its end.

    Raises:
        TrainingError: the file says anew, and differently, what a setting decides; names both.
    """
    result = dict(config)
    for key, value in own.items():
        name = place + key
        if isinstance(value, dict) and isinstance(config.get(key, {}), dict) and name not in DECIDED:
            result[key] = merged(config.get(key, {}), value, file, f"{name}.")
        elif key not in config and name not in DECIDED:
            result[key] = value
        elif key not in config or config[key] != value:
            decides = DECIDED.get(name, "the engine")
            given = f", which gives {json.dumps(config[key])}" if key in config else ""
            raise TrainingError(f"{file}: {name}: {json.dumps(value)} conflicts with {decides}{given}; leave it out")
    return result
