"""The same mean field by pydensecrf, the C++ library that this operation equals: for tests, benchmarks and by name."""

import importlib.util

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.crf.parameters import Parameters


def missing() -> str | None:
    """Return why pydensecrf can't be used here, or None."""
    return None if importlib.util.find_spec("pydensecrf") else "pydensecrf is not installed"


def mean_field(
    image: NDArray[np.uint8], probabilities: NDArray[np.float32], parameters: Parameters
) -> NDArray[np.float32]:
    """Return Q, float32 (L, H, W), of an image (H, W, 3) and probabilities (L, H, W)."""
    from pydensecrf import densecrf  # noqa: PLC0415 - optional

    labels, height, width = probabilities.shape
    field = densecrf.DenseCRF2D(width, height, labels)
    energy = -np.log(np.clip(probabilities, np.float32(parameters.clip), 1))
    field.setUnaryEnergy(np.ascontiguousarray(energy.reshape(labels, -1)))
    field.addPairwiseGaussian(sxy=parameters.gaussian_sxy, compat=parameters.gaussian_compat)
    field.addPairwiseBilateral(
        sxy=parameters.bilateral_sxy,
        srgb=parameters.bilateral_srgb,
        rgbim=np.require(image, requirements=["C", "W"]),  # it asks for writable memory, though it only reads
        compat=parameters.bilateral_compat,
    )
    return np.asarray(field.inference(parameters.iterations), np.float32).reshape(probabilities.shape)
