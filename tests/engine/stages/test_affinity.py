"""The affinity stage: sure labels from the right α, a training that goes on after a stop, and what it refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camshaft.engine.data import DataSet
from camshaft.engine.errors import RecipeError, Stopped, StoreError
from camshaft.engine.models import AffinityNet, load_network
from camshaft.engine.pipeline import graph
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.stop import StopFlag
from camshaft.engine.stages.affinity import Affinity
from camshaft.engine.stages.crf import Crf, alpha_folder, confident_masks
from camshaft.engine.stages.maps import InferMaps
from camshaft.engine.stages.stage import Product, StageContext, Supervision
from camshaft.engine.stages.walk import Walk
from camshaft.engine.stores import MaskFolder

MakeContext = Callable[..., StageContext]
SETTINGS: dict[str, Any] = {
    "id": "affinity",
    "kind": "affinity",
    "labels": "crf",
    "backbone": {"name": "efficientnet_lite0", "weights": None, "head": False},
    "levels": [{"layer": "stage3", "channels": 8}],
    "iterations": 3,
    "batch_size": 2,
    "augmentation": {"crop": 73},
    "border": "none",
    "log_every": 1,
}


@pytest.fixture
def crf(scenes: DataSet, tmp_path: Path) -> tuple[Product, Path, dict[str, Any]]:
    """Masks at three α, the lower the more background: a class in the left third, then doubt, then background."""
    for alpha, border in ((24, 2 / 3), (3, 1 / 3), (8, 1 / 2)):
        folder = MaskFolder.create(tmp_path / "crf/train" / alpha_folder(alpha), scenes.palette, scenes.file_values)
        for image_id in scenes.ids("train"):
            height, width = scenes.size(image_id)
            labels = np.zeros((height, width), np.uint8)
            labels[:, : round(width * border)] = 2
            folder.write(image_id, labels)
        folder.finalize(scenes.ids("train"), {})
    return Product.CRF, tmp_path / "crf", {"settings": {"alphas": [24, 3, 8]}}


def stage_of(**settings: Any) -> Affinity:
    return Affinity.model_validate({**SETTINGS, **settings})


def test_the_smallest_alpha_says_what_is_a_class_and_the_largest_what_is_background(
    make_context: MakeContext, scenes: DataSet, crf: Any
) -> None:
    labels = confident_masks(make_context({"crf": crf}), "crf", "train")
    for image_id in scenes.ids("train"):
        height, width = scenes.size(image_id)
        expected = np.full((height, width), 255)
        expected[:, : round(width / 3)] = 2
        expected[:, round(width * 2 / 3) :] = 0
        assert (labels(image_id) == expected).all()


def test_a_training_that_was_stopped_ends_with_the_same_network(
    make_context: MakeContext, scenes: DataSet, crf: Any, tmp_path: Path
) -> None:
    stage = stage_of(radius=2)  # less than the doubtful third is wide: no pair of unequal labels
    whole = make_context({"crf": crf})
    figures = stage.run(whole)
    assert figures["steps"] == 3
    assert figures["background_pairs"] > 0
    assert figures["foreground_pairs"] > 0
    assert whole.notes == ["no pair was negative for sure in the last epoch: affinities have learnt without them"]
    network = load_network(whole.folder / "network.safetensors")
    assert isinstance(network, AffinityNet)
    assert network.classes == scenes.classes

    (tmp_path / "again").mkdir()
    stopping = replace(whole, folder=tmp_path / "again", stop=StopFlag(), notes=[])
    stopping.stop.set("SIGTERM")
    with pytest.raises(Stopped, match="after step 1 of 3"):
        stage.run(stopping)
    assert stage.run(replace(stopping, stop=StopFlag())) == figures
    first, second = (context.folder / "network.safetensors" for context in (whole, stopping))
    assert first.read_bytes() == second.read_bytes()


def test_it_learns_from_tags_through_its_labels_and_from_its_first_weights() -> None:
    assert stage_of().supervision() == frozenset()
    pretrained = {**SETTINGS["backbone"], "weights": "imagenet"}
    assert stage_of(backbone=pretrained).supervision() == {Supervision.IMAGENET}


def test_a_missing_alpha_is_named(make_context: MakeContext, crf: Any) -> None:
    product, folder, _ = crf
    context = make_context({"crf": (product, folder, {"settings": {"alphas": [3, 32]}})})
    with pytest.raises(StoreError, match=r"alpha-32: no such folder"):
        stage_of().run(context)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"augmentation": {"crop": 57}, "border": "psa"},
            "57×57 pixels have no pair of radius 5 at stride 8; crops of 72 do",
        ),
        ({"augmentation": {"crop": 8}}, "8×8 pixels have no pair of radius 5 at stride 8"),
        ({"levels": [{"layer": "stage1", "channels": 8}]}, "levels: stage1 has stride 2, finer"),
    ],
)
def test_settings_that_could_learn_nothing_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        stage_of(**settings).check(("cat",), Path(), Ranks())


def test_stages_that_do_not_go_together_are_named_before_anything_runs() -> None:
    classifier = {"id": "maps", "kind": "maps", "network": "net"}
    crf = Crf.model_validate({"id": "crf", "kind": "crf", "maps": "maps", "alphas": [4]})
    walk = Walk.model_validate({"id": "walk", "kind": "walk", "network": "affinity", "maps": "maps"})
    maps = InferMaps.model_validate({**classifier, "grid_stride": 4, "align_corners": False})
    stages = [maps, crf, stage_of(), walk]
    found = [problem for problem in graph.problems(stages, [stage.id for stage in stages]) if "'net'" not in problem]
    assert found == [
        "stages.affinity.labels: 'crf' has one α, 4, but a second is needed, for what is background for sure, such as "
        "stages.crf.alphas=[4,32]",
        "stages.walk.maps: 'maps' has maps of 4 pixels a cell, but 'affinity' affinities of 8: make "
        "stages.maps.grid_stride or stages.affinity.stride the other",
        "stages.walk.maps: align_corners is false in 'maps' but not in 'affinity', whose affinities would lie "
        "elsewhere: make them the same",
    ]
