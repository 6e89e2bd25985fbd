"""Which arithmetic is taken, why, and that parameters stay float32 in it."""

import pytest
import torch

from camshaft.engine.runtime import precision
from camshaft.engine.runtime.devices import cpu_flags, device_name, select_device
from camshaft.engine.runtime.ranks import Ranks

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["bf16", "fp16", "fp32"])
def test_what_is_asked_for_is_taken(name):
    assert precision.resolve(name, CPU) == (name, "as the recipe asks")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx512f", "amx_bf16"}, ("bf16", "auto: the CPU has AMX-bf16")),
        ({"avx512f", "avx512_bf16"}, ("fp32", "auto: the CPU has no AMX-bf16")),
    ],
)
def test_auto_on_a_cpu(monkeypatch, flags, expected):
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset(flags))
    assert precision.resolve("auto", CPU) == expected


@pytest.mark.parametrize(("capability", "expected"), [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp32")])
def test_auto_on_cuda(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    name, reason = precision.resolve("auto", torch.device("cuda", 0))
    assert name == expected
    assert f"sm{capability[0]}{capability[1]}" in reason


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_autocast_computes_in_it_on_float32_parameters(name, dtype):
    layer = torch.nn.Conv2d(3, 4, 3)
    with precision.autocast(name, CPU):
        result = layer(torch.randn(1, 3, 5, 5))
    assert result.dtype == dtype
    result.float().sum().backward()
    assert layer.weight.dtype == layer.weight.grad.dtype == torch.float32


def test_this_machine_has_a_device_with_a_name():
    device = select_device(Ranks())
    assert device.type in {"cpu", "cuda"}
    assert device_name(device)
    assert all(flag.isprintable() for flag in cpu_flags())
