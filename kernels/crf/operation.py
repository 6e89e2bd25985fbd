"""The dense CRF's public functions: they check, pick an implementation, and hand many images to many threads."""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.choice import choose
from camshaft.kernels.crf import batches, inputs, mean_field, peer, plain, reference
from camshaft.kernels.crf.parameters import Parameters
from camshaft.kernels.team import in_order, thread_count

Implementation = Literal["auto", "numba", "pydensecrf", "torch", "reference"]


def crf(
    image: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    *,
    iterations: int = 10,
    gaussian_sxy: float = 3.0,
    gaussian_compat: float = 3.0,
    bilateral_sxy: float = 80.0,
    bilateral_srgb: float = 13.0,
    bilateral_compat: float = 10.0,
    clip: float = 1e-5,
    implementation: Implementation = "auto",
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Refine per-pixel probabilities with a fully connected CRF (Krähenbühl and Koltun, NIPS 2011).

    Mean-field inference with a Gaussian (smoothness) and a bilateral (appearance) kernel, Potts compatibility and
    symmetric normalisation, equal to pydensecrf's. Safe to call from several threads at once.

    Args:
        image: uint8 (H, W, 3).
        probabilities: float32 (L, H, W), or (U, L, H, W) for several unaries of one image, which then share the
            lattice; at least two labels; they need not sum to one.
        iterations: mean-field steps.
        gaussian_sxy: standard deviation of the smoothness kernel, in pixels.
        gaussian_compat: its weight.
        bilateral_sxy: standard deviation of the appearance kernel in space, in pixels.
        bilateral_srgb: its standard deviation in colour, in steps of 0..255.
        bilateral_compat: its weight.
        clip: probabilities are clipped to [clip, 1] before the logarithm, and not normalised again.
        implementation: "numba"; "pydensecrf" and "torch" (must be installed; the latter on a GPU if there is one);
            "reference" (slow); or "auto", the first of them.
        threads: how many threads share the image ("numba" only); None for all of the process's cores. What they add
            up comes in another order then, so that results differ by rounding.

    Returns:
        Q, float32, of the probabilities' shape; sums to one over the labels.

    Raises:
        ValueError: a wrong shape, dtype or range, or an implementation that can't run here.
    """
    parameters = Parameters(
        iterations, gaussian_sxy, gaussian_compat, bilateral_sxy, bilateral_srgb, bilateral_compat, clip
    )
    return infer(image, probabilities, parameters, implementation, thread_count("crf", threads))


def crf_many(
    items: Iterable[tuple[NDArray[np.uint8], NDArray[np.float32]]],
    *,
    iterations: int = 10,
    gaussian_sxy: float = 3.0,
    gaussian_compat: float = 3.0,
    bilateral_sxy: float = 80.0,
    bilateral_srgb: float = 13.0,
    bilateral_compat: float = 10.0,
    clip: float = 1e-5,
    implementation: Implementation = "auto",
    threads: int | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Yield `crf` of every (image, probabilities), in order, one image a thread.

    Items are drawn as results are taken: at most 2 * threads images are in memory. "torch" takes 64 at once, and those
    of one shape together. Arguments and errors as for `crf`.
    """
    parameters = Parameters(
        iterations, gaussian_sxy, gaussian_compat, bilateral_sxy, bilateral_srgb, bilateral_compat, clip
    )

    if implementation == "torch":
        choose("crf", implementation, _available())
        return batches.mean_field(_checked(items), parameters)

    def alone(item: tuple[NDArray[np.uint8], NDArray[np.float32]]) -> NDArray[np.float32]:
        return infer(*item, parameters, implementation, 1)

    return in_order(alone, items, thread_count("crf", threads))


def infer(
    image: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    parameters: Parameters,
    implementation: Implementation,
    threads: int,
) -> NDArray[np.float32]:
    """Check the arrays, choose the implementation and run it; arguments as for `crf`."""
    inputs.check(image, probabilities)
    name = choose("crf", implementation, _available())
    height, width = image.shape[:2]
    unaries = probabilities.reshape(-1, probabilities.shape[-3], height, width)
    if name == "numba":
        twin = choose("crf by numba", "auto", {"fused": mean_field.unfit(height, width, parameters), "straight": None})
        if twin == "fused":
            q = mean_field.mean_field(image, unaries, parameters, threads)
        else:
            q = plain.mean_field(image, unaries, parameters)
    elif name == "torch":
        q = next(batches.mean_field([(image, unaries)], parameters))
    elif name == "pydensecrf":
        q = np.stack([peer.mean_field(image, unary, parameters) for unary in unaries])
    else:
        q = np.stack([reference.mean_field(image, unary, parameters) for unary in unaries]).astype(np.float32)
    return q.reshape(probabilities.shape)


def _available() -> dict[str, str | None]:
    return {"numba": None, "pydensecrf": peer.missing(), "torch": batches.missing(), "reference": None}


def _checked(items: Iterable[batches.Item]) -> Iterator[batches.Item]:
    for item in items:
        inputs.check(*item)
        yield item
