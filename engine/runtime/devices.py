"""The device that this rank computes on, and its name for records and reports."""

import platform
from pathlib import Path

import torch

from camshaft.engine.runtime.ranks import Ranks


def select_device(ranks: Ranks | None = None) -> torch.device:
    """The CUDA device of this rank's place on its machine, or the CPU where there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda", (ranks or Ranks.from_environment()).local_rank)
    return torch.device("cpu")


def device_name(device: torch.device | None = None) -> str:
    """The device's name as its maker gives it, such as "NVIDIA H100" or the CPU's model and its logical cores."""
    device = device or select_device()
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()}, {torch.get_num_threads()} threads"


def cpu_flags() -> frozenset[str]:
    """The instruction sets that Linux reports for the first core; empty where it reports none."""
    return frozenset(_cpuinfo("flags").split())


def processor_name() -> str:
    """The processor's model as its maker gives it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(field: str) -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == field:
                return value.strip()
    return ""
