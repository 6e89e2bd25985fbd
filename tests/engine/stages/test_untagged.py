"""Images whose tags are empty: they have no maps, are background in labels, and take no part in erasing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from camshaft.engine.data import DataSet
from camshaft.engine.errors import TrainingError
from camshaft.engine.models import Classifier
from camshaft.engine.stages.crf import Crf, alpha_folder
from camshaft.engine.stages.erase import Erase
from camshaft.engine.stages.erase_and_infer import EraseAndInfer
from camshaft.engine.stages.labels import Labels
from camshaft.engine.stages.maps import InferMaps, MapInference
from camshaft.engine.stages.refine import Refine
from camshaft.engine.stages.stage import Product, StageContext
from camshaft.engine.stores import MapStore, MaskFolder

MakeContext = Callable[..., StageContext]
Write = Callable[..., Path]
Save = Callable[..., Classifier]

BACKBONE: Mapping[str, Any] = {
    "name": "torch.nn:Conv2d",
    "arguments": {"in_channels": 3, "out_channels": 4, "kernel_size": 9, "stride": 8, "padding": 4},
}
TRAINING = {"backbone": BACKBONE, "iterations": 1, "batch_size": 2, "augmentation": {"crop": 65}}


@pytest.mark.parametrize(
    "stage",
    [
        InferMaps(id="maps", kind="maps", network="net"),
        InferMaps(id="maps", kind="maps", network="net", reduction="max", divide=False),
        EraseAndInfer(id="again", kind="erase_and_infer", network="net"),
        EraseAndInfer(id="again", kind="erase_and_infer", network="net", erasing="class_specific"),
    ],
    ids=lambda stage: stage.kind,
)
def test_they_have_no_maps(
    make_context: MakeContext, save_classifier: Save, untagged: DataSet, tmp_path: Path, stage: MapInference
) -> None:
    save_classifier(tmp_path / "net", untagged.classes, **BACKBONE)
    context = make_context({"net": (Product.CLASSIFIER, tmp_path / "net", {})}, data=untagged)
    assert stage.run(context)["train"]["images"] == 6
    store = MapStore.open(context.folder / "train")
    assert store.ids == untagged.ids("train")
    assert [len(maps.classes) for maps in store] == [0] * 6


def test_they_are_background_in_masks_and_labels(
    make_context: MakeContext, write_maps: Write, untagged: DataSet, tmp_path: Path
) -> None:
    write_maps(tmp_path / "maps/train", "train", data=untagged)
    inputs = {"maps": (Product.MAPS, tmp_path / "maps", {})}
    for stage, folder in (
        (Crf(id="crf", kind="crf", maps="maps", alphas=(3, 24)), f"train/{alpha_folder(24)}"),
        (Labels(id="labels", kind="labels", maps="maps", threshold=0.3), "train"),
    ):
        context = make_context(inputs, data=untagged)
        assert stage.run(context) == {"train": {"images": 6}}
        masks = MaskFolder.open(context.folder / folder)
        assert masks.ids == untagged.ids("train")
        assert not any(masks.read(image_id).any() for image_id in masks.ids)
        context.folder.rename(tmp_path / stage.id)


def test_refinement_learns_that_nothing_is_there(
    make_context: MakeContext, write_maps: Write, untagged: DataSet, tmp_path: Path
) -> None:
    write_maps(tmp_path / "maps/train", "train", data=untagged)
    stage = Refine.model_validate({"id": "refined", "kind": "refine", "maps": "maps", **TRAINING})
    figures = stage.run(make_context({"maps": (Product.MAPS, tmp_path / "maps", {})}, data=untagged))
    assert figures["images"] == 6
    assert figures["loss"] >= 0


def test_there_is_nothing_to_erase(
    make_context: MakeContext, save_classifier: Save, untagged: DataSet, tmp_path: Path
) -> None:
    save_classifier(tmp_path / "net", untagged.classes, **BACKBONE)
    stage = Erase.model_validate({"id": "cgnet", "kind": "erase", "guide": "net", **TRAINING})
    context = make_context({"net": (Product.CLASSIFIER, tmp_path / "net", {})}, data=untagged)
    with pytest.raises(TrainingError, match=r"^stages\.cgnet: no image of the train split can be trained on$"):
        stage.run(context)
