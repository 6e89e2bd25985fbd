"""Erasing: take a class out of an image by its own class activation map."""

from camshaft.kernels.erase.operation import erase, sample_target

__all__ = ["erase", "sample_target"]
