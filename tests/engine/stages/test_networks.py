"""Networks that do not fit: every stage that takes one, or first weights, says so in one line and begins nothing."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from camshaft.engine.data import DataSet
from camshaft.engine.errors import WeightsError
from camshaft.engine.models import (
    AffinityNetSettings,
    ClassifierSettings,
    SegmenterSettings,
    build_affinity_net,
    build_classifier,
    build_segmenter,
    save_network,
)
from camshaft.engine.models.network_file import Network
from camshaft.engine.stages.affinity import Affinity
from camshaft.engine.stages.classify import Classify
from camshaft.engine.stages.erase import Erase
from camshaft.engine.stages.erase_and_infer import EraseAndInfer
from camshaft.engine.stages.maps import InferMaps
from camshaft.engine.stages.networks import FILE
from camshaft.engine.stages.predict import Predict
from camshaft.engine.stages.refine import Refine
from camshaft.engine.stages.segment import Segment
from camshaft.engine.stages.stage import Product, Stage, StageContext
from camshaft.engine.stages.walk import Walk

MakeContext = Callable[..., StageContext]

BACKBONE: dict[str, Any] = {"name": "efficientnet_lite0", "weights": None, "head": False}
LEVELS = [{"layer": "stage3", "channels": 8}]
TRAINING: dict[str, Any] = {"backbone": BACKBONE, "iterations": 1, "batch_size": 2, "augmentation": {"crop": 73}}


def erase(**settings: Any) -> Erase:
    return Erase.model_validate({"id": "cgnet", "kind": "erase", "guide": "net", **TRAINING, **settings})


READERS: dict[str, Callable[[], Stage]] = {
    "erase": erase,
    "erase_and_infer": lambda: EraseAndInfer(id="again", kind="erase_and_infer", network="net"),
    "maps": lambda: InferMaps(id="maps", kind="maps", network="net"),
    "predict": lambda: Predict(id="prediction", kind="predict", network="net"),
    "walk": lambda: Walk(id="walk", kind="walk", network="net", maps="maps"),
}


def network_for(reader: str, classes: tuple[str, ...]) -> Network:
    """A network of the kind that the stage takes."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {"backbone": BACKBONE}
    match reader:
        case "predict":
            parsed = SegmenterSettings.model_validate({**settings, "head": {"channels": 8}})
            return build_segmenter(parsed, classes, Path())
        case "walk":
            return build_affinity_net(
                AffinityNetSettings.model_validate({**settings, "levels": LEVELS}), classes, Path()
            )
        case _:
            return build_classifier(ClassifierSettings.model_validate(settings), classes, Path())


def of_other_classes(file: Path, reader: str, classes: tuple[str, ...]) -> None:
    save_network(file, network_for(reader, ("tiger", *classes[1:])))


def of_classes_in_another_order(file: Path, reader: str, classes: tuple[str, ...]) -> None:
    save_network(file, network_for(reader, classes[::-1]))


def of_another_kind(file: Path, reader: str, classes: tuple[str, ...]) -> None:
    save_network(file, network_for("maps" if reader in ("predict", "walk") else "predict", classes))


def cut_short(file: Path, reader: str, classes: tuple[str, ...]) -> None:
    save_network(file, network_for(reader, classes))
    file.write_bytes(file.read_bytes()[:-100])


def empty(file: Path, _reader: str, _classes: tuple[str, ...]) -> None:
    file.write_bytes(b"")


def gone(_file: Path, _reader: str, _classes: tuple[str, ...]) -> None:
    pass


FAULTS = [
    (of_other_classes, r"was made for the classes tiger, .*, but the data has "),
    (of_classes_in_another_order, r"was made for the classes .*, but the data has "),
    (of_another_kind, r"holds a \w+, not a \w+$"),
    (cut_short, r"not a whole safetensors file"),
    (empty, r"not a whole safetensors file"),
    (gone, r"no such network file$"),
]


def stopped(stage: Stage, context: StageContext) -> str:
    """The line with which the stage ends; nothing was begun."""
    with pytest.raises(WeightsError) as raised:
        stage.run(context)
    assert not [path for path in context.folder.rglob("*") if path.is_file()]
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("spoil", "message"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_network_that_does_not_fit_is_named(
    make_context: MakeContext,
    scenes: DataSet,
    tmp_path: Path,
    reader: str,
    spoil: Callable[[Path, str, tuple[str, ...]], None],
    message: str,
) -> None:
    (tmp_path / "net").mkdir()
    spoil(tmp_path / "net" / FILE, reader, scenes.classes)
    context = make_context({"net": (Product.CLASSIFIER, tmp_path / "net", {})})
    said = stopped(READERS[reader](), context)
    assert said.startswith(f"{tmp_path / 'net' / FILE}: ")
    assert re.search(message, said)


TRAININGS: dict[str, Callable[[dict[str, Any]], Stage]] = {
    "classify": lambda training: Classify.model_validate({"id": "ordinary", "kind": "classify", **training}),
    "erase": lambda training: erase(**training),
    "refine": lambda training: Refine.model_validate({"id": "refined", "kind": "refine", "maps": "maps", **training}),
    "affinity": lambda training: Affinity.model_validate(
        {"id": "affinity", "kind": "affinity", "labels": "crf", "levels": LEVELS, "border": "none", **training}
    ),
    "segment": lambda training: Segment.model_validate(
        {"id": "deeplab", "kind": "segment", "labels": "labels", **training}
    ),
}


@pytest.mark.parametrize("kind", TRAININGS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_first_weights_cut_short_are_named(make_context: MakeContext, tmp_path: Path, kind: str, suffix: str) -> None:
    weights = {"conv.weight": torch.zeros(64, 3, 3, 3)}
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(weights, file)
    else:
        save_file(weights, file)
    file.write_bytes(file.read_bytes()[:-100])
    stage = TRAININGS[kind]({**TRAINING, "backbone": {**BACKBONE, "weights": file.name}})
    said = stopped(stage, make_context())
    assert said.startswith(f"{file}: not a whole ")
