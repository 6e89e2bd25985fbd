"""Suppression (DRS), forward and backward, against eager torch, torch.compile and a copy; on the CPU against eager."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.graphs import NO_GPU, copied, equality, replayed, run, size_of
from benchmarks.harness import Case, main
from camshaft.kernels.suppress import suppress, suppress_with_controller

DELTA = 0.55
Shape = tuple[int, int, int, int]


def fixed(x: Tensor, implementation: str) -> Tensor:
    return suppress(x, DELTA, implementation=implementation)


def controlled(x: Tensor, weight: Tensor, implementation: str) -> Tensor:
    return suppress_with_controller(x, weight, implementation=implementation)


def tensors(shape: Shape, dtype: torch.dtype, channels_last: bool, controller: bool, device: str) -> list[Tensor]:
    """The gradient, x and, for the controller, its weight."""
    generator = torch.Generator(device).manual_seed(0)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    x, grad = torch.randn(2, *shape, generator=generator, device=device).to(dtype)
    x = x.to(memory_format=memory_format)
    inputs = [x]
    if controller:
        inputs.append((0.01 * torch.randn(shape[1], shape[1], generator=generator, device=device)).to(dtype))
    function = controlled if controller else fixed
    y: Tensor = partial(function, implementation="torch")(*(value.double() for value in inputs))
    # the gradient jumps where x crosses the bound: rounding must not decide what is compared
    near = (x.double() - y.amax((2, 3), keepdim=True)).abs() < 0.02
    grad = grad.masked_fill(near, 0).contiguous(memory_format=memory_format)
    return [grad, *(value.requires_grad_() for value in inputs)]


def describe(shape: Shape, dtype: torch.dtype, channels_last: bool, controller: bool) -> str:
    parts = ["controller" if controller else f"δ = {DELTA}", "×".join(map(str, shape)), str(dtype)[6:]]
    return ", ".join([*parts, "channels_last" if channels_last else "contiguous"])


def on_gpu(shape: Shape, dtype: torch.dtype, channels_last: bool, controller: bool) -> Case:
    grad, *inputs = tensors(shape, dtype, channels_last, controller, "cuda")
    function = controlled if controller else fixed
    eager = partial(function, implementation="torch")
    contenders: dict[str, Callable[[], object]] = {
        "eager": replayed(eager, inputs, grad),
        "torch.compile": replayed(torch.compile(eager), inputs, grad),
        "triton": replayed(partial(function, implementation="triton"), inputs, grad),
        # forward reads x and writes y, backward reads x and the gradient and writes another
        "copy": copied(5 * size_of(grad)),
    }
    exact = partial(run, eager, [value.detach().double().requires_grad_() for value in inputs], grad.double())
    name = describe(shape, dtype, channels_last, controller)
    return Case("suppress", name, contenders, "eager", equality(exact, "eager"), synchronise=torch.cuda.synchronize)


def on_cpu(shape: Shape, dtype: torch.dtype, channels_last: bool, controller: bool) -> Case:
    grad, *inputs = tensors(shape, dtype, channels_last, controller, "cpu")
    function = controlled if controller else fixed
    eager = partial(function, implementation="torch")
    contenders: dict[str, Callable[[], object]] = {
        "eager": partial(run, eager, inputs, grad),
        "numba": partial(run, partial(function, implementation="numba"), inputs, grad),
        "relu alone": partial(unchecked_relu, inputs[0], grad),
    }
    exact = partial(run, eager, [value.detach().double().requires_grad_() for value in inputs], grad.double())
    name = "CPU, " + describe(shape, dtype, channels_last, controller)
    return Case("suppress", name, contenders, "eager", equality(exact, "eager"))


def unchecked_relu(x: Tensor, grad: Tensor) -> None:
    """The yardstick: what the network would do without suppression."""
    run(torch.relu, [x], grad)


HALF, SINGLE = torch.bfloat16, torch.float32
GPU_CASES: dict[str, Callable[[], Case]] = {
    "gpu-delta": partial(on_gpu, (32, 512, 40, 40), HALF, False, False),
    "gpu-delta-single": partial(on_gpu, (32, 256, 80, 80), SINGLE, False, False),
    "gpu-delta-large": partial(on_gpu, (16, 64, 320, 320), HALF, False, False),
    "gpu-delta-large-last": partial(on_gpu, (16, 64, 320, 320), HALF, True, False),
    "gpu-controller": partial(on_gpu, (32, 512, 40, 40), HALF, False, True),
    "gpu-controller-last": partial(on_gpu, (32, 512, 40, 40), HALF, True, True),
}
CPU_CASES: dict[str, Callable[[], Case]] = {
    "cpu-delta": partial(on_cpu, (8, 512, 40, 40), SINGLE, True, False),
    "cpu-controller": partial(on_cpu, (8, 512, 40, 40), SINGLE, True, True),
    "cpu-controller-half": partial(on_cpu, (8, 512, 40, 40), HALF, True, True),
    "cpu-delta-planes": partial(on_cpu, (8, 96, 80, 80), SINGLE, False, False),
}

if __name__ == "__main__":
    if not torch.cuda.is_available():
        print(NO_GPU)
    sys.exit(main(__doc__ or "", CPU_CASES | (GPU_CASES if torch.cuda.is_available() else {})))
