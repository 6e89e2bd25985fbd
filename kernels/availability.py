"""Whether Triton kernels can run on given tensors. Triton itself is imported only once they can."""

import importlib.util
import os

import torch

FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def interpreting() -> bool:
    """Whether Triton's interpreter is on (TRITON_INTERPRET=1), which runs kernels on CPU tensors, slowly."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def why_not_triton(*tensors: torch.Tensor) -> str | None:
    """None where a Triton kernel can run on all `tensors`, else the reason why it can't."""
    for tensor in tensors:
        if tensor.device.type != "cuda" and not (tensor.device.type == "cpu" and interpreting()):
            return f"the tensors are on {tensor.device.type}, not on a CUDA device"
        if tensor.dtype not in FLOATS:
            return f"{str(tensor.dtype).removeprefix('torch.')} is neither float32, float16 nor bfloat16"
        if tensor.numel() == 0:
            return "a tensor is empty"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return None
