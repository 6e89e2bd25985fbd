"""Conversion of weights: what is written loads, and what does not fit is named whole and writes nothing."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from camshaft.engine.cli.main import main
from camshaft.engine.errors import WeightsError
from camshaft.engine.models import load_weights
from camshaft.engine.models.backbones import backbone_names, default_backbone
from camshaft.engine.models.conversion import convert_weights

NAME = "efficientnet_lite0"


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """EfficientNet-Lite0's, with a classifier on top and without counters."""
    torch.manual_seed(0)
    state = default_backbone(NAME).state_dict()
    kept = {name: tensor for name, tensor in state.items() if not name.endswith("tracked")}
    return {**kept, "_fc.bias": torch.zeros(1000), "_fc.weight": torch.zeros(1000, 1280)}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_written_loads(tmp_path: Path, weights: dict[str, Tensor], suffix: str) -> None:
    source, target = tmp_path / f"w{suffix}", tmp_path / "deep/w.safetensors"
    if suffix == ".pth":
        torch.save({"state_dict": weights}, source)
    else:
        save_file(weights, source)
    done = convert_weights(source, target, NAME)
    assert (done.tensors, done.left_out, done.stay_random) == (len(weights) - 2, ("_fc.bias", "_fc.weight"), ())
    network = default_backbone(NAME)
    load_weights(network, target)
    state = network.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in weights.items() if not name.startswith("_fc."))
    with safe_open(target, "pt") as file:
        metadata = file.metadata()
    assert (metadata["backbone"], metadata["source"]) == (NAME, source.name)
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_every_mismatch_is_named_and_nothing_is_written(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    changed = {**weights, "layer9.weight": torch.zeros(3), "_conv_stem.weight": torch.zeros(32, 3, 5, 5)}
    del changed["_bn0.bias"]
    torch.save(changed, tmp_path / "w.pth")
    (tmp_path / "w.safetensors").write_bytes(b"before")
    with pytest.raises(WeightsError) as error:
        convert_weights(tmp_path / "w.pth", tmp_path / "w.safetensors", NAME)
    assert str(error.value).splitlines() == [
        f"{tmp_path}/w.pth: not the weights of efficientnet_lite0; nothing was written",
        "  _bn0.bias: missing in the file, 32 in the network",
        "  _conv_stem.weight: 32×3×5×5 in the file, 32×3×3×3 in the network",
        "  layer9.weight: 3 in the file, not in the network",
    ]
    assert (tmp_path / "w.safetensors").read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 2


def test_tensors_that_share_memory_are_written_each(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    shared = torch.ones(2, 32)
    mapped = {**weights, "_bn0.weight": shared[0], "_bn0.bias": shared[1], "_bn0.running_mean": shared[0]}
    torch.save(mapped, tmp_path / "w.pth")
    convert_weights(tmp_path / "w.pth", tmp_path / "w.safetensors", NAME)
    assert load_file(tmp_path / "w.safetensors")["_bn0.running_mean"].tolist() == [1.0] * 32


@pytest.mark.parametrize(
    ("source", "target", "backbone", "expected"),
    [
        ("w.pth", "w.pth", "vgg16", "w.pth: weights are written as safetensors"),
        ("w.pth", "w.safetensors", "vgg19", "unknown backbone 'vgg19' (there are efficientnet_lite0, vgg16, resnet38"),
        ("none.pth", "w.safetensors", "vgg16", "none.pth: no such weights file"),
        ("none.params", "w.safetensors", "resnet38", "none.params: no such weights file"),
        ("w.params", "w.safetensors", "vgg16", "names of MXNet's parameters are known for resnet38 only"),
        ("w.params", "w.safetensors", "resnet38", "w.params: not a whole MXNet parameters file"),
        ("w.npz", "w.safetensors", "vgg16", "weights files end in .pth, .pt or .safetensors"),
    ],
)
def test_what_is_wrong_is_one_message(
    tmp_path: Path,
    source: str,
    target: str,
    backbone: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("w.pth", "w.params", "w.npz"):
        Path(name).write_bytes(b"short")
    assert main(["weights", "convert", source, target, "--backbone", backbone]) == 1
    assert expected in capsys.readouterr().err
    assert not Path("w.safetensors").exists()


def test_the_command_says_what_became_of_all_tensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = default_backbone("vgg16")
    kept = {name: tensor for name, tensor in network.state_dict().items() if name.startswith("features.")}
    save_file({**kept, "classifier.0.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    source, target = str(tmp_path / "w.safetensors"), str(tmp_path / "vgg16.safetensors")
    assert main(["weights", "convert", source, target, "--backbone", "vgg16"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{target}: 26 tensors of vgg16, 14,714,688 values",
        "left out: classifier.0.weight",
        "not in w.safetensors, so they start at random: extra.0.weight, extra.0.bias, extra.2.weight, extra.2.bias, "
        "extra.4.weight, extra.4.bias",
    ]


def test_every_backbone_can_be_built_by_its_name() -> None:
    with torch.device("meta"):
        assert [default_backbone(name).settings.weights for name in backbone_names()] == [None] * len(backbone_names())
