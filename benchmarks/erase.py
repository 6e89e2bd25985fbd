"""Erasing (OC-CSE), forward and backward, on a GPU: against eager torch, torch.compile and a copy."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.graphs import NO_GPU, copied, equality, replayed, run, size_of
from benchmarks.harness import Case, main
from camshaft.kernels.erase import erase


def on_gpu(shape: tuple[int, int, int, int], size: tuple[int, int], dtype: torch.dtype, **options: Any) -> Case:
    generator = torch.Generator("cuda").manual_seed(0)
    maps = torch.randn(shape, generator=generator, device="cuda").to(dtype).requires_grad_()
    image, grad = torch.randn(2, shape[0], 3, *size, generator=generator, device="cuda").to(dtype)
    target = torch.randint(shape[1], (shape[0],), generator=generator, device="cuda")

    def call(maps: Tensor, image: Tensor, implementation: str) -> Tensor:
        return erase(image, maps, target=target, implementation=implementation, **options)

    eager = partial(call, image=image, implementation="torch")
    contenders: dict[str, Callable[[], object]] = {
        "eager": replayed(eager, [maps], grad),
        "torch.compile": replayed(torch.compile(eager), [maps], grad),
        "triton": replayed(partial(call, image=image, implementation="triton"), [maps], grad),
        # forward reads the image and writes it, backward reads it and its gradient; the maps' gradient is dense
        "copy": copied(4 * size_of(image) + size_of(maps)),
    }
    exact = partial(
        run,
        partial(call, image=image.double(), implementation="torch"),
        [maps.detach().double().requires_grad_()],
        grad.double(),
    )
    name = ", ".join(["×".join(map(str, shape)), "×".join(map(str, size)), str(dtype)[6:], *map(str, options.values())])
    return Case("erase", name, contenders, "eager", equality(exact, "eager"), synchronise=torch.cuda.synchronize)


SHAPE, SIZE = (32, 20, 48, 48), (384, 384)
CASES: dict[str, Callable[[], Case]] = {
    "occse": partial(on_gpu, SHAPE, SIZE, torch.float32),
    "paper": partial(on_gpu, SHAPE, SIZE, torch.float32, maximum="map", order="relu_divide_upsample"),
    "half": partial(on_gpu, SHAPE, SIZE, torch.bfloat16),
}

if __name__ == "__main__":
    if not torch.cuda.is_available():
        print(NO_GPU)
        sys.exit(0)
    sys.exit(main(__doc__ or "", CASES))
