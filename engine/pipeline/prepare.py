"""The look at all data before the first stage: everything that is wrong with it is said before hours of work."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from camshaft.engine.data import DataSet, Finding, Inspection, SplitInspection, conclude, look
from camshaft.engine.errors import DataError
from camshaft.engine.pipeline import fingerprint, record
from camshaft.engine.pipeline.recipe import LoadedRecipe, Recipe
from camshaft.engine.runtime.console import Console
from camshaft.engine.runtime.files import write_json
from camshaft.engine.runtime.ranks import Ranks

STAGES = "stages"
FOLDER_DIGITS = 10
"""Digits of the fingerprint in a stage folder's name: results of other settings stay beside each other."""
INSPECTION = "inspection.json"


@dataclass(frozen=True)
class PreparedData:
    """A data set whose files have been looked at."""

    data: DataSet
    inspection: Inspection
    fingerprint: str


def prepare(loaded: LoadedRecipe, data: DataSet, stages: Path, ranks: Ranks, console: Console) -> PreparedData:
    """Look at every file of the data that the recipe's stages need, unless that was done before.

    Args:
        loaded: the recipe.
        data: its data set.
        stages: the run's folder of stages; the findings are kept there like those of a stage, under the id "data".
        ranks: each rank looks at a share.
        console: where progress is shown.

    Raises:
        DataError: something is wrong with the data, or a stage needs masks or saliency maps where there are none.
    """
    splits = fingerprint.splits_of(loaded.recipe.stages)
    _require_masks(loaded.recipe, data)
    masks = {split for stage in loaded.recipe.stages for split in stage.mask_splits() if data.has_masks(split)}
    _require_saliency(loaded.recipe, data)
    saliency = {split for stage in loaded.recipe.stages for split in stage.saliency_splits()}
    digest = fingerprint.of_data(loaded.recipe, data, splits, masks=masks, saliency=saliency)
    folder = stages / f"data-{digest[:FOLDER_DIGITS]}"
    if ranks.agree(lambda: record.read(folder, digest)) is not None:
        inspection = Inspection.from_json(json.loads((folder / INSPECTION).read_text(encoding="utf-8")))
        console.line(f"data: complete ({_counts(inspection)})")
        return PreparedData(data, inspection, digest)
    inspection = _looked_at(loaded.recipe, data, splits, masks, saliency, ranks, console)
    ranks.agree(lambda: _keep(folder, digest, inspection))
    console.line(f"data: {_counts(inspection)}")
    return PreparedData(data, inspection, digest)


def now() -> str:
    """The time now, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _keep(folder: Path, digest: str, inspection: Inspection) -> None:
    write_json(folder / INSPECTION, inspection.to_json())
    figures = {split: _figures(found) for split, found in inspection.splits.items()}
    record.write(folder, {"id": "data", "kind": "data", "fingerprint": digest, "finished": now(), "figures": figures})


def _looked_at(
    recipe: Recipe,
    data: DataSet,
    splits: Sequence[str],
    masks: Collection[str],
    saliency: Collection[str],
    ranks: Ranks,
    console: Console,
) -> Inspection:
    share = sum(len(data.ids(split)) for split in splits) // ranks.world_size
    found: list[Finding] = []
    with ranks.failing_together(), console.progress("data", share, unit="images") as progress:
        shown = 0

        def show(done: int, _total: int) -> None:
            nonlocal shown
            progress.advance(done - shown)
            shown = done

        found = look(
            data,
            splits,
            masks=masks,
            saliency=saliency,
            progress=show,
            rank=ranks.rank,
            world_size=ranks.world_size,
        )
    findings = [finding for part in ranks.gather(found) for finding in part]
    return conclude(data, splits, findings, on_corrupt=recipe.data.on_corrupt)


def _figures(found: SplitInspection) -> dict[str, Any]:
    return {
        "images": len(found.ids),
        "skipped": [{"id": one.image_id, "reason": one.reason} for one in found.skipped],
        "untagged": list(found.untagged),
    }


def _counts(inspection: Inspection) -> str:
    parts = []
    for split, found in inspection.splits.items():
        remarks = [f"{len(found.skipped)} skipped"] if found.skipped else []
        remarks += [f"{len(found.untagged)} without tags"] if found.untagged else []
        parts.append(f"{len(found.ids)} images in {split}" + (f" ({', '.join(remarks)})" if remarks else ""))
    return ", ".join(parts)


def _require_masks(recipe: Recipe, data: DataSet) -> None:
    for stage in recipe.stages:
        for split in stage.mask_splits():
            if stage.requires_masks() and not data.has_masks(split):
                raise DataError(
                    f"stages.{stage.id}: evaluates on {split}, but {data.name} has no masks for it; "
                    "remove the stage from the recipe, or give the data masks"
                )


def _require_saliency(recipe: Recipe, data: DataSet) -> None:
    for stage in recipe.stages:
        for split in stage.saliency_splits():
            if not data.has_saliency(split):
                raise DataError(
                    f"stages.{stage.id}: takes background from saliency maps, but {data.name} has none for {split}; "
                    "give the data saliency maps, or set saliency: null, where maps alone say what is background"
                )
