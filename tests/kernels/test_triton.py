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
OTHERS = {"RELU_FIRST": True, "ALIGN": True, "TAGGED": False}
TILE = {"PLANES": 1, "PIXELS": 2048}
CASES: dict[str, tuple[Any, dict[str, int], int]] = {
    "suppress on chip": (suppress.suppress_kernel, TILE | {"ON_CHIP": True}, 2),
    "suppress walking": (suppress.suppress_kernel, {"PLANES": 32, "PIXELS": 128, "ON_CHIP": False}, 8),
    "suppress backward": (suppress.backward_kernel, TILE | {"ON_CHIP": True}, 2),
    "suppress backward, walking": (suppress.backward_kernel, {"PLANES": 32, "PIXELS": 128, "ON_CHIP": False}, 8),
    "statistics": (suppress.statistics_kernel, TILE, 4),
    "clamp": (suppress.clamp_kernel, TILE, 4),
    "overshoot": (suppress.overshoot_kernel, TILE, 4),
    "spread": (suppress.spread_kernel, TILE, 4),
    "peak": (normalize.peak_kernel, FLAGS | {"PEAK_ON_MAP": False, "ROWS": 16, "COLUMNS": 128}, 8),
    "peak on the map": (normalize.peak_kernel, OTHERS | {"PEAK_ON_MAP": True, "ROWS": 16, "COLUMNS": 128}, 8),
    "accumulate by sum": (
        normalize.normalize_kernel,
        OTHERS | {"DIVIDE": False, "FLIPPED": True, "REDUCTION": 1, "BANDS": 4, "ROWS": 8, "COLUMNS": 128},
        4,
    ),
    "normalize alone": (
        normalize.normalize_kernel,
        OTHERS | {"DIVIDE": True, "FLIPPED": False, "REDUCTION": 0, "BANDS": 4, "ROWS": 8, "COLUMNS": 128},
        4,
    ),
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
    "adjoint of maps alone": (
        adjoint.adjoint_kernel,
        OTHERS | {"PEAK_ON_MAP": True, "COLOURS": 0, "OWN_ROWS": 4, "OWN_COLUMNS": 16, "ROWS": 8, "COLUMNS": 32},
        4,
    ),
    "finish": (adjoint.finish_kernel, {"RELU_FIRST": True, "PEAK_ON_MAP": True, "TAGGED": True, "BLOCK": 1024}, 4),
}
PICTURES = {"x_ptr", "y_ptr", "dx_ptr", "grad_ptr", "maps_ptr", "out_ptr", "image_ptr"}


def signature(kernel: Any, constants: dict[str, int], picture: str) -> dict[str, str]:
    """Types as a launch gives them: the picture tensors that of `picture`, everything in between float32."""
    types = {}
    for name in kernel.arg_names:
        if name in constants:
            types[name] = "constexpr"
        elif name.endswith("_ptr"):
            types[name] = f"*{picture}" if name in PICTURES else "*fp32"
        else:
            types[name] = "fp32" if name in ("eps", "scale_y", "scale_x") else "i32"
    return types


@pytest.mark.parametrize(("capability", "picture"), [(80, "bf16"), (90, "bf16"), (90, "fp16")])
@pytest.mark.parametrize("case", CASES)
def test_kernel_compiles_to_a_cubin(case: str, capability: int, picture: str) -> None:
    kernel, constants, warps = CASES[case]
    source = ASTSource(
        kernel, signature(kernel, constants, picture), {(kernel.arg_names.index(n),): v for n, v in constants.items()}
    )
    options = {"num_warps": warps, "enable_fp_fusion": False}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert f".target sm_{capability}" in compiled.asm["ptx"]
    assert compiled.asm["cubin"][:4] == b"\x7fELF"


def test_kernels_equal_their_definitions_under_the_interpreter() -> None:
    files = [f"test_{operation}.py" for operation in ("suppress", "normalize", "erase")]
    of_the_cpu = "tests/kernels/test_suppress.py::test_threads_give_the_same_result"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--deselect", of_the_cpu, *files],
        cwd=HERE,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
