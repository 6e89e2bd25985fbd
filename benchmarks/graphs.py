"""Timing a forward and a backward pass on a GPU: replayed CUDA graphs, so that launching from Python costs nobody time.

One call replays its graph REPLAYS times; the harness's milliseconds are those of all replays together.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import RedError

REPLAYS = 10
NO_GPU = "no CUDA device here: the GPU rows are not measured"


def run(function: Callable[..., Tensor], inputs: Sequence[Tensor], grad: Tensor) -> list[Tensor]:
    """Forward and backward: the output and the gradients of all inputs that require one."""
    y = function(*inputs)
    wanted = [value for value in inputs if value.requires_grad]
    return [y.detach(), *torch.autograd.grad(y, wanted, grad)]


def replayed(function: Callable[..., Tensor], inputs: Sequence[Tensor], grad: Tensor) -> Callable[[], list[Tensor]]:
    """Capture `run` once, after warming up; the result replays it and gives the captured outputs."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run(function, inputs, grad)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run(function, inputs, grad)

    def replay() -> list[Tensor]:
        for _ in range(REPLAYS):
            graph.replay()
        return results

    return replay


def copied(count: int) -> Callable[[], None]:
    """Copy half of `count` bytes, so that reading and writing move `count`: the time that moving them must take."""
    source = torch.randint(0, 255, (count // 2,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def copy() -> None:
        for _ in range(REPLAYS):
            target.copy_(source)

    return copy


def size_of(*tensors: Tensor) -> int:
    """Bytes of all tensors."""
    return sum(value.numel() * value.element_size() for value in tensors)


def equality(exact: Callable[[], list[Tensor]], plain: str) -> Callable[[Mapping[str, Any]], str]:
    """A check: error against float64 at most twice that of the plain version, plus rounding (None is not checked)."""

    def check(results: Mapping[str, Any]) -> str:
        references = exact()
        worst = 0.0
        for name, values in results.items():
            if values is None:
                continue
            for got, same, reference in zip(values, results[plain], references, strict=True):
                near = reference.to(same.dtype)
                limit = 2 * (same.double() - reference).abs().max() + 2 * (near + 0.3 - 0.3 - near).abs().max()
                error = (got.double() - reference).abs().max()
                worst = max(worst, float(error))
                if not error <= limit:
                    raise RedError(f"{name}: error {float(error):.3g}, at most {float(limit):.3g} is right")
        return f"largest error {worst:.2g}, none above twice the plain version's"

    return check
