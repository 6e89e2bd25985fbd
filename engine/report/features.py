"""What the layers of a network respond to in an image, as the DRS paper shows it.

Kim, Han and Kim, "Discriminative Region Suppression for Weakly-Supervised Semantic Segmentation", AAAI 2021, Figure 5:
each layer's feature maps are averaged over their channels and brought to 0 … 1.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray
from torch import Tensor, nn

from camshaft.engine.models import Suppression
from camshaft.engine.models.suppression import Layered

Module = TypeVar("Module", bound=nn.Module)

RAMP = np.array([(10, 14, 46), (38, 84, 150), (52, 158, 138), (236, 200, 72), (255, 251, 232)], np.float32)
"""Colours from 0 to 1 at equal distances, each lighter than the one before."""


def layer_means(network: nn.Module, image: Tensor) -> dict[str, NDArray[np.float32]]:
    """The mean feature map of every layer, from the image upwards.

    Args:
        network: in inference mode; its layers go by name.
        image: normalised, (1, 3, H, W).

    Returns:
        float32 (h, w) in [0, 1] by layer, each at its own resolution; a layer that is the same everywhere is 0.
    """
    if not isinstance(network, Layered):
        raise TypeError(f"{type(network).__name__} has no layers by name")
    outputs: dict[str, Tensor] = {}

    def watch(layer: str) -> Callable[[nn.Module, Any, Any], None]:
        def see(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                outputs[layer] = output  # the layer's last module has the last word

        return see

    layers = network.layers()
    hooks = [
        network.get_submodule(name).register_forward_hook(watch(layer))
        for layer, names in layers.items()
        for name in names
    ]
    try:
        with torch.inference_mode():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return {layer: _to_unit(outputs[layer][0].float().mean(0)) for layer in layers if layer in outputs}


def unsuppressed(network: Module) -> Module:
    """A copy of `network` with the same weights, in which suppression does nothing (δ = 1)."""
    plain = copy.deepcopy(network)
    for module in plain.modules():
        if isinstance(module, Suppression):
            module.controller, module.delta = None, 1.0
    return plain


def has_suppression(network: nn.Module) -> bool:
    """True if any layer is suppressed."""
    return any(isinstance(module, Suppression) for module in network.modules())


def coloured(values: NDArray[np.float32], size: Sequence[int]) -> NDArray[np.uint8]:
    """Values (h, w) in [0, 1] as colours, uint8 (H, W, 3), bilinearly brought to `size`."""
    tensor = torch.from_numpy(values)[None, None]
    full = F.interpolate(tensor, size=tuple(size), mode="bilinear", align_corners=True)[0, 0].numpy()
    places = np.linspace(0, 1, len(RAMP))
    channels = [np.interp(full, places, RAMP[:, channel]) for channel in range(3)]
    return np.asarray(np.rint(np.stack(channels, axis=2)), np.uint8)


def _to_unit(values: Tensor) -> NDArray[np.float32]:
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(tuple(values.shape), np.float32)
    return ((values - low) / (high - low)).numpy()
