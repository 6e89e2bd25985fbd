"""What a stage's result depends on, as one hash: its settings, its inputs' hashes, the data and the seed."""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import camshaft.engine.stages
from camshaft.engine.pipeline.recipe import Recipe
from camshaft.engine.stages.stage import Stage


def of_stage(stage: Stage, inputs: Mapping[str, str], data: str, recipe: Recipe) -> str:
    """The hexadecimal fingerprint of a stage.

    Args:
        stage: its settings; fields that change only how it runs take no part.
        inputs: fingerprints of the stages that it names, by id.
        data: the data set's fingerprint.
        recipe: whose seed and precision all its stages share.
    """
    return of_value(
        {
            "settings": stage.fingerprinted_settings(),
            "revision": stage.revision,
            "inputs": dict(sorted(inputs.items())),
            "data": data,
            "seed": recipe.seed,
            "precision": recipe.precision,
        }
    )


def of_value(value: Any) -> str:
    """The hexadecimal SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@functools.cache
def of_code() -> str:
    """The hexadecimal SHA-256 of camshaft's own Python files: recorded, but no reason to run a stage again.

    A stage whose result changes with the code says so by its `revision`.
    """
    engine = Path(next(iter(camshaft.engine.stages.__path__))).resolve().parent
    package = [engine, engine.parent / "kernels"]
    digest = hashlib.sha256()
    for file in sorted(path for folder in package for path in folder.rglob("*.py")):
        digest.update(file.relative_to(engine.parent).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
