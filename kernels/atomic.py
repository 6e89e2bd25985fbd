"""Counters that the threads of one compiled (Numba) computation share, each int64 in an array.

All are sequentially consistent: who sees a counter changed sees all that the thread wrote before it changed it.
"""

# ruff: noqa: ARG001 - Numba calls with all arguments, and finds those of an intrinsic by name

from collections.abc import Callable
from typing import Any

import numba.extending
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import make_array

intrinsic: Callable[[Callable[..., Any]], Callable[..., Any]] = numba.extending.intrinsic
INT32, INT64 = ir.IntType(32), ir.IntType(64)
ORDER = "seq_cst"


def _pointer(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
    """Of the counter that the first two arguments, an array and an index, name."""
    data = make_array(signature.args[0])(context, builder, arguments[0]).data
    return builder.gep(data, [arguments[1]])


@intrinsic
def add(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """add(array, index, value): array[index] += value."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        builder.atomic_rmw("add", _pointer(context, builder, signature, arguments), arguments[2], ORDER)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), generate


@intrinsic
def look(typing: Any, array: Any, index: Any) -> Any:
    """look(array, index): array[index], as it is now."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_pointer(context, builder, signature, arguments), ORDER, 8)

    return types.int64(array, types.intp), generate


@intrinsic
def replace(typing: Any, array: Any, index: Any, old: Any, new: Any) -> Any:
    """replace(array, index, old, new): set array[index] to new if it is old; returns whether it was."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature, arguments)
        return builder.extract_value(builder.cmpxchg(pointer, arguments[2], arguments[3], ORDER, ORDER), 1)

    return types.boolean(array, types.intp, types.int64, types.int64), generate


@intrinsic
def give_way(typing: Any) -> Any:
    """give_way(): leave the processor to whoever else wants it."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(INT32, [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate
