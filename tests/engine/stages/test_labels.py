"""The labels stage on maps: with background from saliency maps, and without, and what it says of either."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from camshaft.engine.data import DataSet
from camshaft.engine.stages import seeds
from camshaft.engine.stages.cues import BackgroundCues, cue_labels
from camshaft.engine.stages.labels import Labels
from camshaft.engine.stages.stage import Product, Supervision
from camshaft.engine.stores import MapStore, MaskFolder


def labels_stage(**settings: object) -> Labels:
    return Labels.model_validate({"id": "labels", "kind": "labels", "maps": "maps", "threshold": 0.3, **settings})


@pytest.mark.parametrize("saliency", [None, {"beta": 0.1, "conflict": "ignore"}])
def test_labels_follow_their_rule_image_by_image(  # type: ignore[no-untyped-def]
    make_context, write_maps, scenes: DataSet, tmp_path: Path, saliency: dict[str, object] | None
) -> None:
    write_maps(tmp_path / "maps" / "train", "train")
    stage = labels_stage(saliency=saliency)
    context = make_context({"maps": (Product.MAPS, tmp_path / "maps", {})})
    assert stage.run(context) == {"train": {"images": 6}}
    store, masks = MapStore.open(tmp_path / "maps" / "train"), MaskFolder.open(context.folder / "train")
    for image_id in scenes.ids("train"):
        maps, classes = seeds.of_image(store, image_id)
        found = masks.read(image_id)
        if saliency is None:
            expected = seeds.to_labels(seeds.with_background(0.3, maps), classes)
        else:
            values = scenes.saliency(image_id)
            assert values is not None
            expected = cue_labels(maps, classes, values, 0.3, BackgroundCues.model_validate(saliency))
            assert (found == 255).any()
        assert np.array_equal(found, expected)


def test_saliency_is_recorded_and_its_absence_too(make_context, write_maps, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_maps(tmp_path / "maps" / "train", "train")
    notes = []
    for stage in (labels_stage(), labels_stage(saliency={})):
        context = make_context({"maps": (Product.MAPS, tmp_path / "maps", {})})
        stage.run(context)
        notes += context.notes
    assert notes == ["background comes from the maps alone", "background comes from saliency maps below 0.06"]
    assert labels_stage().supervision() == frozenset()
    assert labels_stage().saliency_splits() == ()
    with_saliency = labels_stage(saliency={}, splits=["train", "val"])
    assert with_saliency.supervision() == {Supervision.SALIENCY}
    assert with_saliency.saliency_splits() == ("train", "val")


def test_crf_masks_take_no_saliency() -> None:
    with pytest.raises(ValidationError, match="saliency goes with maps and a threshold"):
        labels_stage(maps=None, threshold=None, crf="crf", saliency={})


def test_results_without_saliency_stay_valid() -> None:
    """A setting that came later takes no part in the fingerprint at its default."""
    assert "saliency" not in labels_stage().fingerprinted_settings()
    assert labels_stage(saliency={}).fingerprinted_settings()["saliency"]["beta"] == 0.06
