"""Triton as the kernels use it: typed for mypy. Importing this imports Triton, so only modules of kernels do."""

from collections.abc import Callable
from typing import Any

import triton

jit: Callable[[Callable[..., Any]], Any] = triton.jit
"""`triton.jit`: the decorated function is launched as `function[grid](arguments)`, or called by another kernel."""
