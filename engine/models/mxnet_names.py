"""Names of MXNet's parameters, turned into those of the backbones here.

Model A1 of Wu, Shen and van den Hengel ("Wider or Deeper", arXiv:1611.10080) calls the convolution of a block's branch
res4b5_branch2a and the normalisation before it bn4b5_branch2a: level 4, sixth block (the first is 4a).
"""

import re
from collections.abc import Mapping

from torch import Tensor

CONVOLUTION = {"weight": "weight"}
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_var": "running_var"}

_IN_BLOCK = re.compile(
    r"(res|bn)([2-7])(?:a|b(\d+))_(branch(?:1|2a|2b1|2b2))_(weight|gamma|beta|moving_mean|moving_var)"
)
_ON_TOP = re.compile(r"bn7_(gamma|beta|moving_mean|moving_var)")


def resnet38_names(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under `ResNet38`'s names, given under those of the published parameters of model A1.

    arg:res4b5_branch2a_weight becomes b4_5.conv_branch2a.weight, aux:bn2a_branch2b1_moving_var becomes
    b2.bn_branch2b1.running_var. Names that mean nothing here, or mean what another name means already, stay, for the
    comparison with the network to tell of them.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in found.items():
        ours = _resnet38_name(name.removeprefix("arg:").removeprefix("aux:"))
        renamed[name if ours in renamed else ours] = tensor
    return renamed


def _resnet38_name(name: str) -> str:
    if name == "conv1a_weight":
        return "conv1a.weight"
    if on_top := _ON_TOP.fullmatch(name):
        return f"bn7.{NORM[on_top[1]]}"
    in_block = _IN_BLOCK.fullmatch(name)
    if in_block is None:
        return name
    kind, level, number, branch, role = in_block.groups()
    layer, roles = ("conv", CONVOLUTION) if kind == "res" else ("bn", NORM)
    if role not in roles:
        return name
    block = f"b{level}" if number is None else f"b{level}_{number}"
    return f"{block}.{layer}_{branch}.{roles[role]}"
