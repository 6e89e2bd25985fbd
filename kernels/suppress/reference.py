"""The definition of discriminative region suppression (DRS), in plain torch.

Kim, Han, Kim: "Discriminative Region Suppression for Weakly-Supervised Semantic Segmentation", AAAI 2021, Algorithm 1.
Shapes: B images, K channels, H × W pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional


def suppress(x: Tensor, gate: Tensor | float) -> Tensor:
    """min(relu(x), gate · max over the plane of relu(x)); x (B, K, H, W), gate a number or (B | 1, K).

    The gradient flows through the maximum (equal maxima share it) and through the gate; torch.minimum halves it
    between two equal arguments.
    """
    positive = torch.relu(x)
    bound = (gate * positive.amax((2, 3))).to(x.dtype)
    return torch.minimum(positive, bound[:, :, None, None])


def suppress_with_controller(x: Tensor, weight: Tensor) -> Tensor:
    """`suppress` with the gate of the learnable controller, Eq. 2: sigmoid(weight · GAP(relu(x))); weight (K, K)."""
    mean = torch.relu(x).mean((2, 3))
    return suppress(x, torch.sigmoid(functional.linear(mean, weight)))
