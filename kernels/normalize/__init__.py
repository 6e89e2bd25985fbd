"""Class activation maps: ReLU, division by the maximum, upsampling, and accumulation over scales and flips."""

from camshaft.kernels.normalize.operation import accumulate, normalize
from camshaft.kernels.normalize.reference import Maximum, Order, Reduction

__all__ = ["Maximum", "Order", "Reduction", "accumulate", "normalize"]
