import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from camshaft.engine.errors import WeightsError
from camshaft.engine.models import (
    Classifier,
    ClassifierSettings,
    Segmenter,
    SegmenterSettings,
    build_classifier,
    build_segmenter,
    load_network,
    plug_suppression,
    read_description,
    save_network,
)

Randomised = Callable[[nn.Module], nn.Module]
CLASSES = ("cat", "dog")
LITE: dict[str, Any] = {"name": "efficientnet_lite0", "weights": None}
FIXED = {"layers": ["stage7", "head"], "controller": "fixed", "delta": 0.6}
LEARNABLE = {"layers": ["stage7"], "controller": "learnable"}
FOLLOWING = {"layers": ["_blocks.15"], "controller": "learnable", "mode": "follow"}


def classifier(suppression: dict[str, Any] | None = None, **backbone: Any) -> Classifier:
    torch.manual_seed(0)
    settings = ClassifierSettings.model_validate(
        {"backbone": {**LITE, **backbone}, "dropout": 0.3, "suppression": suppression}
    )
    return build_classifier(settings, CLASSES, Path())


@pytest.mark.parametrize("suppression", [None, FIXED, LEARNABLE, FOLLOWING])
def test_a_classifier_comes_back_from_its_file_alone(
    tmp_path: Path, randomised: Randomised, suppression: dict[str, Any] | None
) -> None:
    saved = classifier(suppression, output_stride=8)
    saved.to(device="cpu", dtype=torch.float32, memory_format=torch.channels_last)  # type: ignore[call-overload]
    randomised(saved)
    save_network(tmp_path / "network.safetensors", saved)
    loaded = load_network(tmp_path / "network.safetensors")
    assert isinstance(loaded, Classifier)
    assert loaded.classes == CLASSES
    assert loaded.settings == saved.settings
    assert not loaded.training
    image = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), saved(image), rtol=1e-5, atol=1e-6)
    assert list(loaded.state_dict()) == list(saved.state_dict())


def test_a_segmenter_comes_back_from_its_file_alone(tmp_path: Path) -> None:
    settings = SegmenterSettings.model_validate({"backbone": {**LITE, "head": False}, "head": {"channels": 8}})
    saved = build_segmenter(settings, CLASSES, Path())
    save_network(tmp_path / "network.safetensors", saved)
    loaded = load_network(tmp_path / "network.safetensors")
    assert isinstance(loaded, Segmenter)
    assert loaded.settings == settings
    image = torch.randn(1, 3, 48, 48)
    assert torch.equal(loaded(image), saved(image))


def test_a_network_comes_back_where_its_pretrained_weights_are_gone(tmp_path: Path) -> None:
    torch.save(classifier().backbone.state_dict(), tmp_path / "w.pth")
    settings = ClassifierSettings.model_validate({"backbone": {**LITE, "weights": "w.pth"}})
    save_network(tmp_path / "network.safetensors", build_classifier(settings, CLASSES, tmp_path))
    (tmp_path / "w.pth").unlink()
    assert load_network(tmp_path / "network.safetensors").settings == settings


def test_the_description_is_read_without_the_weights(tmp_path: Path) -> None:
    save_network(tmp_path / "network.safetensors", classifier(FIXED))
    description = read_description(tmp_path / "network.safetensors")
    assert description["kind"] == "classifier"
    assert description["classes"] == list(CLASSES)
    assert description["settings"]["suppression"]["delta"] == 0.6


def test_suppression_that_the_settings_do_not_tell_of_is_not_lost_silently(tmp_path: Path) -> None:
    network = classifier()
    plug_suppression(network, ["head"], "fixed", 0.5)
    with pytest.raises(ValueError, match="belongs in the classifier's settings"):
        save_network(tmp_path / "network.safetensors", network)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_network(tmp_path / "network.safetensors", classifier())
    return tmp_path / "network.safetensors"


@pytest.mark.parametrize("kept", [0, 5, 0.001, 0.5, -1])
def test_truncated_files_are_named(path: Path, kept: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(WeightsError, match=r"network\.safetensors: not a whole safetensors file"):
        load_network(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.safetensors: no such network file"):
        load_network(tmp_path / "absent.safetensors")


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write the file again with another description."""
    with safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["camshaft"])
    change(description)
    save_file(load_file(path), path, {"camshaft": json.dumps(description)})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 99, "format 99 of network files; this version reads 1"),
        ("kind", "generator", "a network of the unknown kind 'generator'"),
        ("settings", {"backbone": {"name": "alexnet"}}, "can't be rebuilt by this version"),
        ("classes", ["cat"], r"head\.weight: 2×1280×1×1 in the file, 1×1280×1×1 in the network"),
    ],
)
def test_descriptions_that_do_not_fit_are_named(path: Path, key: str, value: object, message: str) -> None:
    rewrite(path, lambda description: description.update({key: value}))
    with pytest.raises(WeightsError, match=message) as error:
        load_network(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("metadata", [None, {"camshaft": "not JSON"}, {"camshaft": "[]"}])
def test_weights_without_a_description_are_named(path: Path, metadata: dict[str, str] | None) -> None:
    save_file(load_file(path), path, metadata)
    with pytest.raises(WeightsError, match="not the description of a camshaft network"):
        load_network(path)


def test_saving_over_a_file_replaces_it_whole(path: Path) -> None:
    changed = classifier()
    nn.init.zeros_(changed.head.weight)
    save_network(path, changed)
    loaded = load_network(path)
    assert isinstance(loaded, Classifier)
    assert loaded.head.weight.abs().max() == 0
    assert [file.name for file in path.parent.iterdir()] == [path.name]
