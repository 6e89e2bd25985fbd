"""Normalised class activation maps, forward and backward, on a GPU: against eager torch, torch.compile and a copy."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.graphs import NO_GPU, copied, equality, replayed, run, size_of
from benchmarks.harness import Case, main
from camshaft.kernels.normalize import normalize


def on_gpu(shape: tuple[int, int, int, int], size: tuple[int, int], dtype: torch.dtype, **options: Any) -> Case:
    generator = torch.Generator("cuda").manual_seed(0)
    maps = torch.randn(shape, generator=generator, device="cuda").to(dtype).requires_grad_()
    grad = torch.randn(*shape[:2], *size, generator=generator, device="cuda").to(dtype)
    eager = partial(normalize, size=size, implementation="torch", **options)
    contenders: dict[str, Callable[[], object]] = {
        "eager": replayed(eager, [maps], grad),
        "torch.compile": replayed(torch.compile(eager), [maps], grad),
        "triton": replayed(partial(normalize, size=size, implementation="triton", **options), [maps], grad),
        # forward reads the maps and writes the output, backward reads its gradient and the maps and writes theirs
        "copy": copied(2 * size_of(grad) + 3 * size_of(maps)),
    }
    exact = partial(run, eager, [maps.detach().double().requires_grad_()], grad.double())
    name = ", ".join(["×".join(map(str, shape)), "×".join(map(str, size)), str(dtype)[6:], *map(str, options.values())])
    return Case("normalize", name, contenders, "eager", equality(exact, "eager"), synchronise=torch.cuda.synchronize)


SHAPE, SIZE = (32, 20, 40, 40), (320, 320)
CASES: dict[str, Callable[[], Case]] = {
    "paper": partial(on_gpu, SHAPE, SIZE, torch.float32, order="relu_divide_upsample"),
    "drs": partial(on_gpu, SHAPE, SIZE, torch.float32, order="relu_upsample_divide", align_corners=True),
    "occse": partial(on_gpu, SHAPE, SIZE, torch.float32, order="upsample_relu_divide", maximum="batch"),
    "half": partial(on_gpu, SHAPE, SIZE, torch.bfloat16, order="relu_divide_upsample"),
}

if __name__ == "__main__":
    if not torch.cuda.is_available():
        print(NO_GPU)
        sys.exit(0)
    sys.exit(main(__doc__ or "", CASES))
