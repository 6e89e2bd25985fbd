"""The Triton kernels without a GPU: run by Triton's interpreter, and compiled to machine code for two generations."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from camshaft.kernels.availability import interpreting

pytest.importorskip("triton")
if interpreting():
    pytest.skip("the interpreter replaces the compiler", allow_module_level=True)

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from camshaft.kernels.normalize import adjoint
from camshaft.kernels.normalize import device as normalize
from camshaft.kernels.suppress import device as suppress

HERE = Path(__file__).parent
FLAGS = {"RELU_FIRST": False, "ALIGN": False, "TAGGED": True}
TILE = {"PLANES": 1, "PIXELS": 2048}
CASES: dict[str, tuple[Any, dict[str, int], int]] = {
    "suppress on chip": (suppress.suppress_kernel, TILE | {"ON_CHIP": True}, 2),
    "suppress walking": (suppress.suppress_kernel, {"PLANES": 32, "PIXELS": 128, "ON_CHIP": False}, 8),
    "suppress backward": (suppress.backward_kernel, TILE | {"ON_CHIP": True}, 2),
    "statistics": (suppress.statistics_kernel, TILE, 4),
    "clamp": (suppress.clamp_kernel, TILE, 4),
    "overshoot": (suppress.overshoot_kernel, TILE, 4),
    "spread": (suppress.spread_kernel, TILE, 4),
    "peak": (normalize.peak_kernel, FLAGS | {"PEAK_ON_MAP": False, "ROWS": 16, "COLUMNS": 128}, 8),
    "normalize": (
        normalize.normalize_kernel,
        FLAGS | {"DIVIDE": True, "FLIPPED": True, "REDUCTION": 2, "BANDS": 4, "ROWS": 8, "COLUMNS": 128},
        4,
    ),
    "erase": (
        normalize.erase_kernel,
        {"RELU_FIRST": False, "ALIGN": True, "COLOURS": 3, "ROWS": 8, "COLUMNS": 128},
        4,
    ),
    "adjoint": (
        adjoint.adjoint_kernel,
        FLAGS | {"PEAK_ON_MAP": False, "COLOURS": 3, "OWN_ROWS": 4, "OWN_COLUMNS": 16, "ROWS": 8, "COLUMNS": 32},
        4,
    ),
    "finish": (adjoint.finish_kernel, {"RELU_FIRST": True, "PEAK_ON_MAP": True, "TAGGED": True, "BLOCK": 1024}, 4),
}
HALF = {"x_ptr", "y_ptr", "dx_ptr", "grad_ptr", "maps_ptr", "out_ptr", "image_ptr"}


def signature(kernel: Any, constants: dict[str, int]) -> dict[str, str]:
    """Types as a launch gives them: the picture tensors bfloat16, everything in between float32."""
    types = {}
    for name in kernel.arg_names:
        if name in constants:
            types[name] = "constexpr"
        elif name.endswith("_ptr"):
            types[name] = "*bf16" if name in HALF else "*fp32"
        else:
            types[name] = "fp32" if name in ("eps", "scale_y", "scale_x") else "i32"
    return types


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("case", CASES)
def test_kernel_compiles_to_a_cubin(case: str, capability: int) -> None:
    kernel, constants, warps = CASES[case]
    source = ASTSource(
        kernel, signature(kernel, constants), {(kernel.arg_names.index(n),): v for n, v in constants.items()}
    )
    options = {"num_warps": warps, "enable_fp_fusion": False}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert f".target sm_{capability}" in compiled.asm["ptx"]
    assert compiled.asm["cubin"][:4] == b"\x7fELF"


def test_kernels_equal_their_definitions_under_the_interpreter() -> None:
    files = [f"test_{operation}.py" for operation in ("suppress", "normalize", "erase")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "twin", "-p", "no:cacheprovider", *files],
        cwd=HERE,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
