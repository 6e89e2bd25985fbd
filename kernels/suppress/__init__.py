"""Discriminative region suppression: clamp a feature map at a share of its own maximum."""

from camshaft.kernels.suppress.operation import suppress, suppress_with_controller

__all__ = ["suppress", "suppress_with_controller"]
