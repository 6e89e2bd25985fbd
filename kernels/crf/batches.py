"""Many dense CRFs on torch tensors: images of one shape together, on the GPU where there is one."""

import importlib.util
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.alike import batches_alike
from camshaft.kernels.crf.parameters import Parameters

AHEAD = 64
"""Images that are looked at together, in search of those of one shape."""
BATCH = 16

Item = tuple[NDArray[np.uint8], NDArray[np.float32]]


def missing() -> str | None:
    """Return why tensors can't be used, or None."""
    return None if importlib.util.find_spec("torch") else "torch is not installed"


def mean_field(items: Iterable[Item], parameters: Parameters) -> Iterator[NDArray[np.float32]]:
    """Yield Q of every (image, probabilities), in order; the shapes are those of operation.crf."""
    remaining = iter(items)
    while window := list(islice(remaining, AHEAD)):
        shapes = [(image.shape, probabilities.shape) for image, probabilities in window]
        found: dict[int, NDArray[np.float32]] = {}
        for batch in batches_alike(shapes, BATCH):
            found |= zip(batch, _together([window[position] for position in batch], parameters), strict=True)
        for position in range(len(window)):
            yield found[position]


def _together(items: list[Item], parameters: Parameters) -> NDArray[np.float32]:
    """Q of items of one shape."""
    import torch  # noqa: PLC0415 - the CRF's other twins don't need it

    from camshaft.kernels.crf import tensors  # noqa: PLC0415

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, probabilities = (torch.from_numpy(np.stack(arrays)).to(device) for arrays in zip(*items, strict=True))
    q: NDArray[np.float32] = tensors.crf(images, probabilities, parameters).cpu().numpy()
    return q
