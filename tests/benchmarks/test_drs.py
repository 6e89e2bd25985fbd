"""What the benchmark of suppression says is kept for the backward pass, against a count by hand."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def drs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    spec = importlib.util.spec_from_file_location("benchmark_drs", ROOT / "benchmarks" / "drs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "benchmark_drs", module)
    spec.loader.exec_module(module)
    return module


def test_suppression_keeps_each_convolution_s_output_beside_its_own(drs: ModuleType) -> None:
    plain, suppressed = (
        drs.kept_bytes(drs.step_of(settings, 1, 32, "cpu", autocast=False))
        for settings in (None, {"controller": "fixed", "delta": 0.55})
    )
    # 32×32 pixels, halved thrice: two layers of 64 and 128 channels, three of 256, nine of 512.
    values = 2 * 64 * 32**2 + 2 * 128 * 16**2 + 3 * 256 * 8**2 + 9 * 512 * 4**2
    channels = 2 * 64 + 2 * 128 + 3 * 256 + 9 * 512
    beside = suppressed - plain - 4 * values
    assert 0 <= beside <= 4 * 3 * channels  # three numbers a channel at most
    assert plain > 4 * values  # ReLU keeps its outputs; poolings keep theirs too
