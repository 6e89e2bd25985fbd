"""Backbones by import path: networks of installed packages, and all that can be wrong with one."""

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save_file
from torch import nn

from camshaft.engine.errors import RecipeError, WeightsError
from camshaft.engine.models import (
    AffinityNet,
    AffinityNetSettings,
    BackboneSettings,
    ClassifierSettings,
    build_affinity_net,
    build_backbone,
    build_classifier,
    load_network,
    parameter_groups,
    save_network,
)
from camshaft.engine.models.imported import ImportedBackbone, ImportedBackboneSettings
from camshaft.engine.models.parameters import MultiplierSettings
from camshaft.engine.pipeline.recipe import load
from camshaft.engine.runtime import packages
from camshaft.engine.runtime.packages import import_installed, versions_of

NETWORKS = '''
import torch
from pathlib import Path
from torch import nn

VERSION = 3


class Small(nn.Module):
    """A classifier with a first part of stride 4 whose convolutions pad, a classifier on top, and a module `layers`."""

    def __init__(self, width=8, padding=1, classes=5):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=padding)
        self.act1 = nn.ReLU(inplace=True)
        self.layers = nn.Sequential(nn.Conv2d(width, width, 3, stride=2, padding=padding), nn.ReLU(), nn.Dropout(0.5))
        self.late = nn.Conv2d(width, width, 1)
        self.unused = nn.Linear(2, 2)
        self.fc = nn.Linear(width, classes)
        self.seen = []

    def forward(self, x):
        x = self.layers(self.act1(self.stem(x)))
        x = self.late(x)
        self.seen.append("late")
        return self.fc(x.mean((2, 3)))

    @classmethod
    def wide(cls):
        return cls(16)


class Pair(Small):
    def forward(self, x):
        return [self.layers(self.act1(self.stem(x))), None]


class Floor(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.MaxPool2d(2))


class Valid(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 9, stride=4))


class Weighed(nn.Module):
    """Weighs channels by their means, through a layer whose output is no feature map."""

    def __init__(self):
        super().__init__()
        self.stem, self.weigh = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Linear(4, 4)

    def forward(self, x):
        x = self.stem(x)
        return x * self.weigh(x.mean((2, 3)))[:, :, None, None]


class Even(nn.Module):
    """Fails unless both sides are whole strides, as networks with skip connections do."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 4, 2, stride=2), nn.ConvTranspose2d(4, 3, 2, stride=2)

    def forward(self, x):
        y = self.down(x)
        return torch.cat([x, self.up(y)], 1)[:, :, ::2, ::2]


def number():
    return 5


def broken(size):
    raise KeyError(f"no size {size}\\nat all")
'''


@pytest.fixture(autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package `acme`, version 1.5, as pip leaves one."""
    site = tmp_path_factory.mktemp("site")
    install(site, "1.5")
    monkeypatch.syspath_prepend(str(site))
    packages._distributions.cache_clear()
    yield site
    packages._distributions.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
        del sys.modules[name]


def install(site: Path, version: str) -> None:
    (site / "acme").mkdir(exist_ok=True)
    (site / "acme/__init__.py").write_text("from acme.networks import Small\n__all__ = ['Small']\n")
    (site / "acme/networks.py").write_text(NETWORKS)
    (site / "acme/broken.py").write_text("raise RuntimeError('no licence')")
    for old in site.glob("*.dist-info"):
        (old / "METADATA").unlink()
        (old / "RECORD").unlink()
        old.rmdir()
    info = site / f"acme_networks-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-networks\nVersion: {version}\n")
    (info / "RECORD").write_text("acme/__init__.py,,\nacme/networks.py,,\nacme/broken.py,,\n")
    packages._distributions.cache_clear()


def settings_of(name: str = "acme.networks:Small", **values: Any) -> ImportedBackboneSettings:
    parsed = TypeAdapter(BackboneSettings).validate_python({"name": name, **values})
    assert isinstance(parsed, ImportedBackboneSettings)
    return parsed


def build(name: str = "acme.networks:Small", **values: Any) -> ImportedBackbone:
    backbone = build_backbone(settings_of(name, **values), Path("/"))
    assert isinstance(backbone, ImportedBackbone)
    return backbone


def problem(name: str = "acme.networks:Small", **values: Any) -> str:
    with pytest.raises(RecipeError) as error:
        build(name, **values)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_features_come_from_the_layer_that_is_named_and_nothing_behind_it_runs() -> None:
    backbone = build(features="layers")
    assert (backbone.stride, backbone.channels) == (4, 8)
    image = torch.randn(2, 3, 33, 50)
    features = backbone(image)
    assert features.shape == (2, 8, 9, 13)
    stock: Any = backbone.stock
    assert torch.equal(features, stock.layers(stock.act1(stock.stem(image))))
    assert stock.seen == []


def test_arguments_reach_the_factory_and_methods_are_factories() -> None:
    assert build(features="late", arguments={"width": 12}).channels == 12
    assert build("acme:Small.wide", features="late").channels == 16
    assert build("torch.nn:Conv2d", arguments={"in_channels": 3, "out_channels": 4, "kernel_size": 1}).stride == 1


def affinity_net(layer: str, **backbone: Any) -> AffinityNet:
    levels = [{"layer": layer, "channels": 8}]
    settings = AffinityNetSettings.model_validate({"backbone": backbone, "stride": 4, "levels": levels})
    return build_affinity_net(settings, ("cat",), Path("/"))


def test_affinity_levels_run_before_the_features_and_the_last_may_be_the_features() -> None:
    backbone = {"name": "acme.networks:Small", "features": "layers"}
    for layer in ("layers.0", "layers"):
        network = affinity_net(layer, **{**backbone, "arguments": {"width": 12}})
        assert network(torch.zeros(1, 3, 33, 40)).shape == (1, 8, 9, 10)
        assert network.head.levels[0].weight.shape == (8, 12, 1, 1)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("layer", "backbone", "message"),
    [
        ("late", {"name": "acme.networks:Small", "features": "layers"}, "late does not run before the backbone's"),
        ("unused", {"name": "acme.networks:Small", "features": "late"}, "unused does not run before the backbone's"),
        ("fc", {"name": "acme.networks:Small", "features": "late"}, "fc does not run before the backbone's features"),
        ("weigh", {"name": "acme.networks:Weighed"}, r"weigh gives no feature maps \(B, K, h, w\)$"),
    ],
)
def test_affinity_levels_without_part_in_the_features_are_named(
    layer: str, backbone: dict[str, Any], message: str
) -> None:
    with torch.device("meta"), pytest.raises(RecipeError, match=f"^levels: {message}") as error:
        affinity_net(layer, **backbone)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["Floor", "Even"])
def test_networks_that_round_down_or_take_whole_strides_only_are_padded(name: str) -> None:
    backbone = build(f"acme.networks:{name}")
    stride = backbone.stride
    assert stride == {"Floor": 4, "Even": 2}[name]
    image = torch.randn(1, 3, 17, 24)
    features = backbone(image)
    assert features.shape[2:] == (-(-17 // stride), 24 // stride)
    padded = torch.cat([image, torch.zeros(1, 3, -17 % stride, 24)], 2)
    assert torch.equal(features, backbone.stock(padded))


def test_only_what_has_part_in_the_features_learns() -> None:
    backbone = build(features="layers")
    learning = {name for name, parameter in backbone.stock.named_parameters() if parameter.requires_grad}
    assert learning == {"stem.weight", "stem.bias", "layers.0.weight", "layers.0.bias"}
    frozen = build(features="layers", freeze=["stem"])
    groups = parameter_groups(frozen, MultiplierSettings())
    assert sum(parameter.numel() for group in groups for parameter in group["params"]) == 8 * 8 * 9 + 8


def test_weights_load_under_the_network_s_own_names(tmp_path: Path) -> None:
    weights = {name: tensor + 1 for name, tensor in build(features="layers").stock.state_dict().items()}
    save_file(weights, tmp_path / "w.safetensors")
    loaded = build_backbone(settings_of(features="layers", weights="w.safetensors"), tmp_path)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in loaded.stock.state_dict().items())
    del weights["fc.bias"]
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"weights of this Small; nothing was loaded\n  fc\.bias: missing"):
        build_backbone(settings_of(features="layers", weights="w.safetensors"), tmp_path)
    with pytest.raises(WeightsError, match="for acme:Small give the path of a weights file"):
        build("acme:Small", weights="imagenet", features="layers")


def test_suppression_goes_by_the_network_s_own_names() -> None:
    def suppressed(*layers: str, features: str = "layers", **values: Any) -> tuple[str, ...]:
        suppression = {"layers": layers, "controller": "fixed", **values}
        backbone = settings_of(features=features).model_dump()
        settings = ClassifierSettings.model_validate({"backbone": backbone, "suppression": suppression})
        with torch.device("meta"):
            return build_classifier(settings, ["cat"], Path("/")).backbone.suppressed

    assert suppressed("act1") == ("network.act1",)
    assert suppressed("layers") == ("network.layers.1",)
    assert suppressed("layers.*") == ("network.layers.1",)
    assert suppressed("act1", features="act1") == ("network.act1",)
    assert suppressed("late", features="late", mode="follow") == ("network.late.suppression",)
    with pytest.raises(RecipeError, match=r"'layer5' matches nothing; the activations are act1, layers\.1"):
        suppressed("layer5")
    with pytest.raises(RecipeError, match="late does not run by itself"):
        suppressed("late", mode="follow")


def test_a_classifier_comes_back_from_its_file_where_that_is_trusted(tmp_path: Path) -> None:
    settings = ClassifierSettings.model_validate(
        {
            "backbone": settings_of(features="layers", arguments={"width": 4}).model_dump(),
            "suppression": {"layers": ["act1"]},
        }
    )
    saved = build_classifier(settings, ["cat", "dog"], Path("/"))
    save_network(tmp_path / "network.safetensors", saved)
    loaded = load_network(tmp_path / "network.safetensors", imports=True)
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(loaded(image), saved(image))
    assert loaded.settings == settings
    with pytest.raises(WeightsError, match=r"made by acme\.networks:Small, and camshaft calls no code that a file"):
        load_network(tmp_path / "network.safetensors")


def test_a_real_package_s_network() -> None:
    backbone = build(
        "efficientnet_lite_pytorch:EfficientNet.from_name",
        arguments={"model_name": "efficientnet-lite0"},
        features="_bn1",
        normalization={"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    )
    assert isinstance(backbone.stock, EfficientNet)
    assert (backbone.stride, backbone.channels) == (32, 1280)
    assert backbone.normalization.mean == (0.5, 0.5, 0.5)
    norms = [module for module in backbone.train().modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("nothing_here:x", {}, "backbone.name: no installed package has 'nothing_here'; backbones come from installed"),
        ("os:getcwd", {}, "no installed package has 'os'"),
        ("acme.absent:x", {}, "acme.absent:x: there is no module 'acme.absent'"),
        ("acme.broken:x", {}, "acme.broken can't be imported: RuntimeError: no licence"),
        ("acme:Big", {}, "acme:Big: acme has no 'Big'; it has Small"),
        ("acme.networks:VERSION", {}, "is a int, not a function or class"),
        ("acme.networks:Path", {}, "comes from pathlib, not from acme; name it there"),
        ("acme.networks:number", {}, "acme.networks:number gives a int, no nn.Module"),
        ("acme.networks:broken", {"arguments": {"size": 3}}, "it fails: KeyError: 'no size 3\\nat all'"),
        ("acme.networks:Small", {"arguments": {"depth": 3}}, "it fails: TypeError: Small.__init__() got an unexpected"),
        ("acme.networks:Small", {}, "the network gives (1, 5), not feature maps (B, K, h, w); feature maps come from"),
        ("acme.networks:Pair", {}, "the network gives a list, not feature maps"),
        ("acme.networks:Small", {"features": "fc"}, "fc gives (1, 5), not feature maps"),
        ("acme.networks:Small", {"features": "unused"}, "backbone.features: unused does not run; feature maps come"),
        (
            "acme.networks:Small",
            {"features": "layer4"},
            "backbone.features: no layer 'layer4'; feature maps come from stem, act1, layers.0, layers.1, layers.2, "
            "layers, late",
        ),
        ("acme.networks:Valid", {}, "makes 22×30 features of an image of 96×128, which is no whole stride"),
        ("torch.nn:Linear", {"arguments": {"in_features": 9, "out_features": 2}}, "on an image of 96×128, fails"),
        ("acme.networks:Small", {"features": "late", "freeze": ["layer1"]}, "backbone.freeze: no layer 'layer1'"),
    ],
)
def test_what_is_wrong_is_one_line(name: str, values: dict[str, Any], expected: str) -> None:
    assert expected in problem(name, **values)


@pytest.mark.parametrize("argument", [{"pretrained": True}, {"weights": "DEFAULT"}, {"checkpoint_path": "w.pth"}])
def test_weights_that_nobody_sees_are_refused(argument: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="would load weights unseen; give their file as weights instead"):
        settings_of(arguments=argument)
    assert settings_of(arguments={"pretrained": False, "weights": None})


def test_an_unknown_name_without_a_colon_is_one_of_the_own_backbones_misspelt(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "name: r\ndata: {kind: scenes}\nstages:\n  - {id: a, kind: classify, backbone: {name: resnet83}}\n"
        "  - {id: b, kind: classify, backbone: {name: 'acme:Small', feature: late}}\n"
    )
    with pytest.raises(RecipeError) as error:
        load(tmp_path / "r.yaml")
    assert "stages.a.backbone: unknown 'name' 'resnet83'; did you mean 'resnet38'?" in str(error.value)
    assert "stages.b.backbone.feature: unknown key 'feature'; did you mean 'features'?" in str(error.value)


def test_the_json_schema_takes_both_kinds() -> None:
    schema = TypeAdapter(BackboneSettings).json_schema()
    for value in ({"name": "resnet38"}, {"name": "acme:Small", "features": "late", "arguments": {"depth": [1, None]}}):
        jsonschema.validate(value, schema)
    for value in ({"name": "resnet83"}, {"name": "resnet38", "features": "late"}, {"name": "acme:Small", "head": True}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(value, schema)


@pytest.mark.parametrize("name", ["acme.networks:", ":Small", "acme/networks:Small", "../acme:Small", "acme:a:b"])
def test_what_is_no_import_path_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="String should match pattern"):
        settings_of(name)


def test_a_module_beside_the_recipe_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mynet.py").write_text("raise SystemExit('was run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RecipeError, match="no installed package has 'mynet'"):
        import_installed("mynet:Net", tmp_path)
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme/__init__.py").write_text("raise SystemExit('was run')")
    importlib.invalidate_caches()
    with pytest.raises(RecipeError, match=r"acme/__init__\.py hides the installed package acme-networks"):
        import_installed("acme:Small", tmp_path)


def test_what_is_installed_into_the_recipe_s_folder_is_not_taken(package: Path) -> None:
    with pytest.raises(RecipeError, match="no installed package has 'acme'"):
        import_installed("acme:Small", package)


def test_an_editable_package_is_taken_from_its_project(tmp_path: Path, package: Path) -> None:
    (package / "acme").rename(tmp_path / "acme")
    sys.path.append(str(tmp_path))
    try:
        with pytest.raises(RecipeError, match="hides the installed package"):
            import_installed("acme:Small", Path("/"))
        info = next(package.glob("*.dist-info"))
        (info / "direct_url.json").write_text(f'{{"url": "{tmp_path.as_uri()}", "dir_info": {{"editable": true}}}}')
        assert callable(import_installed("acme:Small", Path("/")))
    finally:
        sys.path.remove(str(tmp_path))


def test_the_fingerprint_covers_path_arguments_and_version(tmp_path: Path, package: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "name: r\ndata: {kind: scenes}\nstages:\n"
        "  - {id: a, kind: classify, epochs: 1,\n"
        "     backbone: {name: 'acme.networks:Small', features: late, arguments: {width: 8}}}\n"
    )

    def fingerprinted(*overrides: str) -> dict[str, Any]:
        return load(tmp_path / "r.yaml", overrides).recipe.stages[0].fingerprinted_settings()

    first = fingerprinted()
    assert list(first["packages"]) == ["acme-networks 1.5"]
    assert first["backbone"]["name"] == "acme.networks:Small"
    assert fingerprinted("stages.a.backbone.arguments.width=9") != first
    assert fingerprinted("stages.a.backbone={name: 'acme:Small', features: late, arguments: {width: 8}}") != first
    assert "packages" not in fingerprinted("stages.a.backbone={name: vgg16}")
    install(package, "1.6")
    assert fingerprinted() != first
    assert versions_of("nothing_here") == ()
