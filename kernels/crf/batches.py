"""Many dense CRFs on torch tensors: images of one shape together, on the GPU where there is one."""

import importlib.util
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

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
        of_shape: dict[tuple[tuple[int, ...], ...], list[int]] = defaultdict(list)
        for position, (image, probabilities) in enumerate(window):
            of_shape[image.shape, probabilities.shape].append(position)
        found: dict[int, NDArray[np.float32]] = {}
        for positions in of_shape.values():
            for start in range(0, len(positions), BATCH):
                batch = positions[start : start + BATCH]
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
