"""Weights of other programs, checked against a backbone and written as one safetensors file."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from camshaft.engine.errors import WeightsError
from camshaft.engine.models.backbone import Backbone
from camshaft.engine.models.backbones import backbone_names, default_backbone
from camshaft.engine.models.mxnet_names import resnet38_names
from camshaft.engine.models.mxnet_params import read_params
from camshaft.engine.models.parameters import new_names
from camshaft.engine.models.weights import differences, read_weights
from camshaft.engine.runtime.files import sha256_of, write_bytes

MXNET_SUFFIX = ".params"
MXNET_NAMES = {"resnet38": resnet38_names}
"""Backbones whose MXNet parameters have names that are known, and how these become the backbone's."""


@dataclass(frozen=True)
class Conversion:
    """What was written, and what was not."""

    tensors: int
    values: int
    """In all tensors together."""
    left_out: tuple[str, ...]
    """Names of the source's tensors that the backbone has no use for, such as ImageNet's classifier."""
    stay_random: tuple[str, ...]
    """Names of the backbone's new layers, which the source need not have."""


def convert_weights(source: Path, target: Path, backbone: str) -> Conversion:
    """Write the weights in `source` to `target`, under the backbone's names, whole or not at all.

    Args:
        source: .params (MXNet's), .pth, .pt or .safetensors.
        target: .safetensors.
        backbone: the backbone's name in recipes.

    Raises:
        WeightsError: an unknown backbone; the source can't be read or is not the backbone's: every missing, unexpected
            and differently shaped tensor has its line.
        DiskFullError: no space was left; `target` is as it was before.
    """
    if target.suffix != ".safetensors":
        raise WeightsError(f"{target}: weights are written as safetensors: let its name end in .safetensors")
    if backbone not in backbone_names():
        raise WeightsError(f"unknown backbone {backbone!r} (there are {', '.join(backbone_names())})")
    with torch.device("meta"):
        network = default_backbone(backbone)
    found = _read(source, backbone)
    left_out = [name for name in found if any(fnmatchcase(name, pattern) for pattern in network.ignored_weights)]
    kept = {name: tensor for name, tensor in found.items() if name not in left_out}
    problems = differences(network, kept, new_layers=False)
    if problems:
        raise WeightsError(
            f"{source}: not the weights of {backbone}; nothing was written\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )
    metadata = {"backbone": backbone, "source": source.name, "source_sha256": sha256_of(source)}
    write_bytes(target, save(_separate(kept), metadata))
    return Conversion(
        tensors=len(kept),
        values=sum(tensor.numel() for tensor in kept.values()),
        left_out=tuple(left_out),
        stay_random=_not_in(kept, network),
    )


def _read(source: Path, backbone: str) -> dict[str, Tensor]:
    if source.suffix != MXNET_SUFFIX:
        return read_weights(source)
    if backbone not in MXNET_NAMES:
        raise WeightsError(f"{source}: names of MXNet's parameters are known for {', '.join(MXNET_NAMES)} only")
    return MXNET_NAMES[backbone](read_params(source))


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors each with memory of its own, as a safetensors file wants them."""
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}


def _not_in(found: dict[str, Tensor], network: Backbone) -> tuple[str, ...]:
    new = new_names(network)
    return tuple(name for name in network.state_dict() if name in new and name not in found)
