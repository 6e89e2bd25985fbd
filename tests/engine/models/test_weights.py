import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from camshaft.engine.errors import WeightsError
from camshaft.engine.models import build_backbone, load_weights, weights_file
from camshaft.engine.models.parameters import mark_new
from camshaft.engine.models.resnet import ResNet50Settings
from camshaft.engine.models.vgg import VGG16, VGG16Settings


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1, bias=False))


def first_weights(loaded: nn.Sequential) -> set[float]:
    return set(loaded.get_parameter("0.weight").flatten().tolist())


def other_weights() -> dict[str, Tensor]:
    return {name: torch.full_like(tensor, 7) for name, tensor in network().state_dict().items()}


def write(path: Path, weights: object) -> Path:
    if path.suffix == ".safetensors":
        assert isinstance(weights, dict)
        save_file(weights, path)
    else:
        torch.save(weights, path)
    return path


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors"])
def test_weights_load(tmp_path: Path, name: str) -> None:
    loaded = network()
    load_weights(loaded, write(tmp_path / name, other_weights()))
    assert all((tensor == 7).all() for tensor in loaded.state_dict().values())


def test_weights_under_state_dict_load(tmp_path: Path) -> None:
    loaded = network()
    load_weights(loaded, write(tmp_path / "w.pth", {"epoch": 3, "state_dict": other_weights()}))
    assert all((tensor == 7).all() for tensor in loaded.state_dict().values())


def test_half_precision_weights_load_into_float32(tmp_path: Path) -> None:
    weights = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in other_weights().items()
    }
    loaded = network()
    load_weights(loaded, write(tmp_path / "w.pth", weights))
    assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}
    assert first_weights(loaded) == {7}


def test_every_mismatch_is_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    weights = other_weights()
    del weights["0.bias"], weights["1.running_var"]
    weights["0.weight"] = torch.zeros(4, 3, 5, 5)
    weights["2.weight"] = torch.zeros(9, 4, 1, 1)
    weights["3.weight"] = torch.zeros(2)
    loaded = network()
    before = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    path = write(tmp_path / "w.pth", weights)
    with pytest.raises(WeightsError) as error:
        load_weights(loaded, path)
    first, *lines = str(error.value).splitlines()
    assert first == f"{path}: not the weights of this Sequential; nothing was loaded"
    assert [line.strip() for line in lines] == [
        "0.bias: missing in the file, 4 in the network",
        "1.running_var: missing in the file, 4 in the network",
        "0.weight: 4×3×5×5 in the file, 4×3×3×3 in the network",
        "2.weight: 9×4×1×1 in the file, 2×4×1×1 in the network",
        "3.weight: 2 in the file, not in the network",
    ]
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.state_dict().items())


def test_counters_of_batches_may_be_missing(tmp_path: Path) -> None:
    weights = other_weights()
    del weights["1.num_batches_tracked"]
    loaded = network()
    load_weights(loaded, write(tmp_path / "w.pth", weights))
    assert first_weights(loaded) == {7}


def test_new_layers_may_be_missing_unless_they_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", other_weights())
    loaded = nn.Sequential(*network(), mark_new(nn.Conv2d(2, 2, 1)))
    load_weights(loaded, path)
    assert first_weights(loaded) == {7}
    with pytest.raises(WeightsError, match=r"3\.weight: missing in the file"):
        load_weights(loaded, path, new_layers=True)


def test_torchvision_s_classifier_is_left_out_by_name(tmp_path: Path) -> None:
    weights = {name: tensor + 1 for name, tensor in VGG16(VGG16Settings(form="largefov")).state_dict().items()}
    path = write(tmp_path / "vgg16.pth", {**weights, "classifier.0.weight": torch.zeros(2, 2)})
    loaded = build_backbone(VGG16Settings(weights="vgg16.pth"), tmp_path)
    assert torch.equal(loaded.state_dict()["features.28.bias"], weights["features.28.bias"])
    write(path, {**weights, "fc.weight": torch.zeros(2, 2)})
    with pytest.raises(WeightsError, match=r"fc\.weight: 2×2 in the file, not in the network"):
        build_backbone(VGG16Settings(weights="vgg16.pth"), tmp_path)


@pytest.mark.parametrize("settings", [VGG16Settings(weights="imagenet"), ResNet50Settings(weights="imagenet")])
def test_imagenet_weights_that_no_package_has_ask_for_a_path(settings: VGG16Settings | ResNet50Settings) -> None:
    with pytest.raises(WeightsError, match=f"for {settings.name} give the path of a torchvision weights file"):
        build_backbone(settings, Path())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.pth: no such weights file"):
        weights_file("absent.pth", "vgg16", tmp_path)


class Bomb:
    """What a weights file with code in it does when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("torch_format", [True, False])
def test_code_in_a_weights_file_is_refused_and_not_run(tmp_path: Path, torch_format: bool) -> None:
    path, target = tmp_path / "w.pth", tmp_path / "ran"
    if torch_format:
        torch.save({"0.weight": Bomb(target)}, path)
    else:
        path.write_bytes(pickle.dumps({"0.weight": Bomb(target)}))
    with pytest.raises(WeightsError, match=r"w\.pth: "):
        load_weights(network(), path)
    assert not target.exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_truncated_files_are_named(tmp_path: Path, name: str, kept: float) -> None:
    path = write(tmp_path / name, other_weights())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(WeightsError, match="not a whole"):
        load_weights(network(), path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "holds a list, not a dictionary of tensors by name"),
        ({"0.weight": torch.zeros(1), "epoch": 3}, "not a dictionary of tensors by name: look at 'epoch'"),
    ],
)
def test_other_contents_are_named(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        load_weights(network(), write(tmp_path / "w.pth", content))


def test_other_file_types_are_named(tmp_path: Path) -> None:
    (tmp_path / "w.npz").touch()
    with pytest.raises(WeightsError, match=r"w\.npz: weights files end in \.pth, \.pt or \.safetensors"):
        load_weights(network(), tmp_path / "w.npz")
