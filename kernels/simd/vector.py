"""A short vector of float32 for compiled (Numba) functions, held in registers.

LLVM vectorises plain loops well, but not across the handful of labels of a pixel, nor through exp. There a compiled
function says what it means: `load` makes a vector of as many lanes as its `Lanes` argument says, `+ - * /` work on
vectors of one width and on a vector and a float32, `store` writes it. The width is part of the type of `Lanes`, so a
function that takes one is compiled for each width. It need not be the machine's: LLVM splits or pads.

A product and a sum may be fused, and values count as finite; sums keep their order (compiled.py says why). There are no
bounds checks, and a negative index is not taken from the end.
"""

# ruff: noqa: ARG001 - Numba calls with all arguments, and finds those of an intrinsic by name

import operator
from collections.abc import Callable
from typing import Any

import numba.extending
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_constant
from numba.extending import NativeValue, models, register_model, typeof_impl, unbox
from numba.np.arrayobj import make_array

from camshaft.kernels import compiled

FAST = tuple(sorted(compiled.FAST))
Function = Callable[..., Any]
intrinsic: Callable[[Function], Function] = numba.extending.intrinsic
overload: Callable[[Function], Callable[[Function], Function]] = numba.extending.overload
overload_attribute: Callable[[type, str], Callable[[Function], Function]] = numba.extending.overload_attribute
FLOAT = ir.FloatType()
INT32 = ir.IntType(32)


class Lanes:
    """How many lanes vectors have: a constant when compiling, as an argument or a global of the compiled function."""

    def __init__(self, width: int) -> None:
        """Give every vector `width` lanes."""
        self.width = width


class LanesType(types.Type):  # type: ignore[misc]
    """Numba's type of `Lanes(width)`."""

    def __init__(self, width: int) -> None:
        """Name it by its width."""
        self.width = width
        super().__init__(name=f"Lanes({width})")


register_model(LanesType)(models.OpaqueModel)


@typeof_impl.register(Lanes)  # type: ignore[untyped-decorator]
def _typeof_lanes(value: Lanes, context: Any) -> LanesType:
    return LanesType(value.width)


@unbox(LanesType)  # type: ignore[untyped-decorator]
def _unbox_lanes(kind: LanesType, value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


@lower_constant(LanesType)  # type: ignore[untyped-decorator]
def _lanes_constant(context: Any, builder: ir.IRBuilder, kind: LanesType, value: Any) -> Any:
    return context.get_dummy_value()


@overload_attribute(LanesType, "width")
def _width(lanes: Any) -> Any:
    width = lanes.width

    def implementation(lanes: Any) -> Any:
        return width

    return implementation


class Vector(types.Type):  # type: ignore[misc]
    """Numba's type of `width` float32 in one register."""

    def __init__(self, width: int) -> None:
        """Name it by its width."""
        self.width = width
        super().__init__(name=f"Vector({width})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    """How LLVM holds it."""

    def __init__(self, manager: Any, vector: Vector) -> None:
        """`<width x float>`."""
        super().__init__(manager, vector, llvm_type(vector.width))


def llvm_type(width: int, element: ir.Type = FLOAT) -> ir.VectorType:
    """Return LLVM's vector type."""
    return ir.VectorType(element, width)


def constant(width: int, value: float) -> ir.Constant:
    """Return a vector with `value`, rounded to float32, in every lane."""
    return ir.Constant(llvm_type(width), [float(np.float32(value))] * width)


def call(builder: ir.IRBuilder, name: str, result: ir.Type, arguments: list[Any], flags: tuple[str, ...] = ()) -> Any:
    """Call one of LLVM's own functions."""
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, arguments, fastmath=flags)


def pointer_to(context: Any, builder: ir.IRBuilder, kind: Any, array: Any, index: Any, width: int) -> Any:
    """Point to the vector that begins at array[index]."""
    data = make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), llvm_type(width).as_pointer())


@intrinsic
def load(typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    """load(array, index, lanes): array[index : index + width] of a one-dimensional float32 array."""
    vector = Vector(lanes.width)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        pointer = pointer_to(context, builder, array, arguments[0], arguments[1], vector.width)
        return builder.load(pointer, align=4)

    return vector(array, types.intp, lanes), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """store(array, index, vector): array[index : index + width] = vector."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        pointer = pointer_to(context, builder, array, arguments[0], arguments[1], vector.width)
        builder.store(arguments[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def prefetch(typing: Any, array: Any, index: Any) -> Any:
    """prefetch(array, index): begin to load the cache line of array[index], which may lie outside."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        data = make_array(array)(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        read, keep, of_data = (ir.Constant(ir.IntType(32), value) for value in (0, 3, 1))
        call(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, read, keep, of_data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def peek(typing: Any, array: Any, index: Any) -> Any:
    """peek(array, index): array[index], without the test for an index that counts from the end."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        data = make_array(array)(context, builder, arguments[0]).data
        return builder.load(builder.gep(data, [arguments[1]]))

    return array.dtype(array, types.intp), generate


@intrinsic
def poke(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """poke(array, index, value): array[index] = value, without the test for an index that counts from the end."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        data = make_array(array)(context, builder, arguments[0]).data
        builder.store(arguments[2], builder.gep(data, [arguments[1]]))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), generate


@intrinsic
def broadcast(typing: Any, value: Any, lanes: Any) -> Any:
    """broadcast(value, lanes): the float32 in every lane."""
    vector = Vector(lanes.width)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return broadcast_to(builder, arguments[0], vector.width)

    return vector(types.float32, lanes), generate


def broadcast_to(builder: ir.IRBuilder, value: Any, width: int) -> Any:
    """Return a vector with the float32 in every lane."""
    nothing = ir.Constant(llvm_type(width), ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(INT32, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(llvm_type(width, INT32), [0] * width))


@intrinsic
def load_repeated(typing: Any, array: Any, index: Any, times: Any, lanes: Any) -> Any:
    """load_repeated(array, index, times, lanes): width / times.width elements from index on, each times.width times."""
    count = lanes.width // times.width

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        few = builder.load(pointer_to(context, builder, array, arguments[0], arguments[1], count), align=4)
        return _shuffle(builder, few, [lane // times.width for lane in range(lanes.width)])

    return Vector(lanes.width)(array, types.intp, times, lanes), generate


def _shuffle(builder: ir.IRBuilder, vector: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(
        vector, ir.Constant(vector.type, ir.Undefined), ir.Constant(llvm_type(len(lanes), INT32), lanes)
    )


def larger(builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    """Return the larger, lane by lane."""
    return builder.select(builder.fcmp_ordered(">", a, b, flags=FAST), a, b)


def _sum(builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.fadd(a, b, flags=FAST)


def _among(combine: Callable[..., Any]) -> Any:
    """Make a function that gives every lane the combination of its group of size.width adjacent lanes."""

    @intrinsic
    def among(typing: Any, vector: Any, size: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            value = arguments[0]
            step = 1
            while step < size.width:  # a butterfly: the size is a power of two
                value = combine(builder, value, _shuffle(builder, value, [i ^ step for i in range(vector.width)]))
                step *= 2
            return value

        return vector(vector, size), generate

    return among


sum_among = _among(_sum)
max_among = _among(larger)


@intrinsic
def minimum(typing: Any, a: Any, b: Any) -> Any:
    """minimum(a, b): the smaller, lane by lane."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        a_, b_ = arguments
        return builder.select(builder.fcmp_ordered("<", a_, b_, flags=FAST), a_, b_)

    return a(a, b), generate


@intrinsic
def maximum(typing: Any, a: Any, b: Any) -> Any:
    """maximum(a, b): the larger, lane by lane."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return larger(builder, arguments[0], arguments[1])

    return a(a, b), generate


@intrinsic
def without_small(typing: Any, vector: Any, least: Any) -> Any:
    """without_small(vector, least): the vector, or 0 in lanes that are less than the float32."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        value, bound = arguments
        counts = builder.fcmp_ordered(">=", value, broadcast_to(builder, bound, vector.width))
        return builder.select(counts, value, constant(vector.width, 0))

    return vector(vector, types.float32), generate


@intrinsic
def any_outside(typing: Any, vector: Any, lowest: Any, highest: Any) -> Any:
    """any_outside(vector, lowest, highest): whether a lane is less than lowest, more than highest, or not a number."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        value, low, high = arguments
        below = builder.fcmp_unordered("<", value, broadcast_to(builder, low, vector.width))
        above = builder.fcmp_unordered(">", value, broadcast_to(builder, high, vector.width))
        lanes = builder.bitcast(builder.or_(below, above), ir.IntType(vector.width))
        return builder.icmp_unsigned("!=", lanes, ir.Constant(lanes.type, 0))

    return types.boolean(vector, types.float32, types.float32), generate


def _define(operation: Callable[..., Any], instruction: str) -> None:
    """Define an operator on two vectors, and on a vector and a number on either side."""

    @intrinsic
    def apply(typing: Any, a: Any, b: Any) -> Any:
        vector = a if isinstance(a, Vector) else b

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            both = [
                value if isinstance(kind, Vector) else broadcast_to(builder, value, vector.width)
                for kind, value in zip(signature.args, arguments, strict=True)
            ]
            return getattr(builder, instruction)(*both, flags=FAST)

        return vector(*(kind if isinstance(kind, Vector) else types.float32 for kind in (a, b))), generate

    def implementation(a: Any, b: Any) -> Any:
        return apply(a, b)

    @overload(operation)
    def choose(a: Any, b: Any) -> Any:
        return implementation if isinstance(a, Vector) or isinstance(b, Vector) else None


for _operation, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define(_operation, _instruction)
