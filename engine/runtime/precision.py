"""The number format of forward and backward passes. Parameters and optimiser state are float32 in every one of them."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from camshaft.engine.runtime.devices import cpu_flags, select_device

PrecisionName = Literal["auto", "bf16", "fp16", "fp32"]
"""What a recipe may ask for."""

Arithmetic = Literal["bf16", "fp16", "fp32"]
"""What a network computes in once that is decided."""

SM80 = (8, 0)
"""CUDA compute capability from which on bfloat16 has tensor cores."""


def resolve(precision: PrecisionName, device: torch.device | None = None) -> tuple[Arithmetic, str]:
    """The arithmetic to compute in, and why.

    `auto` takes bf16 where the hardware multiplies it faster than float32: CUDA from sm80 on, and CPUs with AMX-bf16.
    Elsewhere bf16 is emulated or no faster, so it takes float32.
    """
    device = device or select_device()
    if precision != "auto":
        return precision, "as the recipe asks"
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        said = f"CUDA sm{capability[0]}{capability[1]}"
        return ("bf16", f"auto: {said} has bf16") if capability >= SM80 else ("fp32", f"auto: {said} has no bf16")
    if "amx_bf16" in cpu_flags():
        return "bf16", "auto: the CPU has AMX-bf16"
    return "fp32", "auto: the CPU has no AMX-bf16"


def autocast(arithmetic: Arithmetic, device: torch.device) -> AbstractContextManager[object]:
    """The context in which a network's forward pass computes in `arithmetic`."""
    if arithmetic == "fp32":
        return nullcontext()
    dtype = torch.bfloat16 if arithmetic == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype)
