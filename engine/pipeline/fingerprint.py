"""What a stage's result depends on, as one hash: its settings, its inputs' hashes, the data and the seed."""

import functools
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import camshaft.engine.stages
from camshaft.engine.data import DataSet
from camshaft.engine.data.dataset import SPLITS
from camshaft.engine.pipeline.recipe import Recipe
from camshaft.engine.runtime.files import sha256_of
from camshaft.engine.runtime.precision import Arithmetic
from camshaft.engine.stages.stage import Stage


def of_stage(
    stage: Stage, inputs: Mapping[str, str], recipe: Recipe, data: DataSet, base: Path, arithmetic: Arithmetic
) -> str:
    """The hexadecimal fingerprint of a stage.

    Args:
        stage: its settings; fields that change only how it runs take no part.
        inputs: fingerprints of the stages that it names, by id.
        recipe: whose seed all its stages share.
        data: of which the files count that the stage uses: its splits' images and tags, masks and saliency maps only
            where it reads them.
        base: the folder from which a recipe's relative paths start.
        arithmetic: what networks compute in.

    Raises:
        CamshaftError: a file from outside that the stage needs is not there.
    """
    return of_value(
        {
            "settings": stage.fingerprinted_settings(),
            "revision": stage.revision,
            "inputs": dict(sorted(inputs.items())),
            "data": of_data(
                recipe, data, splits_of([stage]), masks=stage.mask_splits(), saliency=stage.saliency_splits()
            ),
            "files": [sha256_of(path) for path in stage.external_files(base)],
            "seed": recipe.seed,
            "arithmetic": arithmetic,
        }
    )


def of_data(
    recipe: Recipe, data: DataSet, splits: Sequence[str], *, masks: Collection[str], saliency: Collection[str]
) -> str:
    """What results depend on of the data: classes, images and tags of these splits, masks and saliency maps where they
    are read, and what is done about corrupt images."""
    return of_value(
        {
            "classes": data.classes,
            "splits": {
                split: data.fingerprint(split, masks=split in masks, saliency=split in saliency) for split in splits
            },
            "on_corrupt": recipe.data.on_corrupt,
        }
    )


def splits_of(stages: Sequence[Stage]) -> tuple[str, ...]:
    """The splits that stages work on, in the data set's order."""
    used = {split for stage in stages for split in (*stage.needed_splits(), *(stage.made_splits() or ()))}
    return tuple(split for split in SPLITS if split in used)


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
