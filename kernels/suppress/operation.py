"""The public functions of discriminative region suppression: they check, pick an implementation and run it.

Source: Kim, Han, Kim, "Discriminative Region Suppression for Weakly-Supervised Semantic Segmentation", AAAI 2021.
"""

import torch
from torch import Tensor

from camshaft.kernels.availability import why_not_triton
from camshaft.kernels.choice import choose
from camshaft.kernels.suppress import reference
from camshaft.kernels.suppress.cpu import CompiledPasses, why_not_here
from camshaft.kernels.suppress.gradient import Passes, Suppress, SuppressWithController


def suppress(x: Tensor, gate: Tensor | float, *, implementation: str = "auto") -> Tensor:
    """Clamp every channel at a share of its own maximum (Algorithm 1): min(relu(x), gate · max_HW relu(x)).

    Args:
        x: (B, K, H, W), floating point, in either memory format.
        gate: (B, K), (K,) or the non-learnable controller's δ, a number in (0, 1].
        implementation: "triton" (CUDA), "numba" (CPU), "torch" or "auto".

    Returns:
        (B, K, H, W) in x's dtype. The gradient flows through the maximum, where equal maxima share it, and through
        the gate; nothing is detached. The bound gate · max is rounded to x's dtype.

    Raises:
        ValueError: x or gate has another shape or dtype, or δ lies outside (0, 1].
    """
    _check_input(x)
    if isinstance(gate, Tensor):
        gate = _checked_gate(x, gate)
    elif not 0 < gate <= 1:
        raise ValueError(f"suppress: gate is {gate}; as a number (δ) it lies in (0, 1]")
    name = choose("suppress", implementation, _candidates(x))
    if name == "torch":
        return reference.suppress(x, gate)
    planes = torch.as_tensor(gate, dtype=torch.float32, device=x.device).expand(x.shape[:2])
    y: Tensor = Suppress.apply(x, planes, _passes(name))  # type: ignore[no-untyped-call]
    return y


def suppress_with_controller(x: Tensor, weight: Tensor, *, implementation: str = "auto") -> Tensor:
    """`suppress` under the learnable controller (Eq. 2): gate = sigmoid(weight · GAP(relu(x))).

    Args:
        x: (B, K, H, W), floating point, in either memory format.
        weight: (K, K), the controller's fully connected layer without bias.
        implementation: "triton" (CUDA), "numba" (CPU), "torch" or "auto".

    Returns:
        (B, K, H, W) in x's dtype. The gradient flows to x through the clamp, the maximum and the mean, and to weight.

    Raises:
        ValueError: x or weight has another shape or dtype.
    """
    _check_input(x)
    if weight.shape != (x.shape[1], x.shape[1]) or not weight.is_floating_point():
        raise ValueError(
            f"suppress: weight is {tuple(weight.shape)} of {weight.dtype}; for {x.shape[1]} channels it is "
            f"({x.shape[1]}, {x.shape[1]}) and floating point"
        )
    name = choose("suppress", implementation, _candidates(x))
    if name == "torch":
        return reference.suppress_with_controller(x, weight)
    y: Tensor = SuppressWithController.apply(x, weight, _passes(name))  # type: ignore[no-untyped-call]
    return y


def _candidates(x: Tensor) -> dict[str, str | None]:
    return {"triton": why_not_triton(x), "numba": why_not_here(x), "torch": None}


def _passes(name: str) -> Passes:
    if name == "numba":
        return CompiledPasses()
    from camshaft.kernels.suppress.gpu import TritonPasses  # noqa: PLC0415 - imports Triton, which may be missing

    return TritonPasses()


def _check_input(x: Tensor) -> None:
    if x.ndim != 4 or x.shape[2] * x.shape[3] == 0:
        raise ValueError(f"suppress: x is {tuple(x.shape)}; it is (B, K, H, W) with at least one pixel")
    if not x.is_floating_point():
        raise ValueError(f"suppress: x is {x.dtype}; it is floating point")


def _checked_gate(x: Tensor, gate: Tensor) -> Tensor:
    images, channels = x.shape[:2]
    if not gate.is_floating_point():
        raise ValueError(f"suppress: gate is {gate.dtype}; it is floating point")
    if gate.shape == (channels,):
        return gate[None]
    if gate.shape == (images, channels):
        return gate
    raise ValueError(
        f"suppress: gate is {tuple(gate.shape)}; for x {tuple(x.shape)} it is ({images}, {channels}), ({channels},) "
        "or a number"
    )
