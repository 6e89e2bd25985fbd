"""The channels of a run of pixels, one vector a channel: planes.

Pixels keep their channels side by side. What looks at all channels of a pixel (the largest, the sum) is quicker on
planes: as many vectors as a pixel has channels (2, 4 or 8) are transposed when loaded, and back when stored. Pixels
come in another order then, the same in every plane.
"""

# ruff: noqa: ARG001 - Numba calls with all arguments, and finds those of an intrinsic by name

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

from llvmlite import ir
from numba import types

from camshaft.kernels.simd.functions import exp_of
from camshaft.kernels.simd.vector import FAST, INT32, Vector, intrinsic, larger, llvm_type, pointer_to


def _transposed(builder: ir.IRBuilder, vectors: list[Any], lanes: int) -> list[Any]:
    """Transpose the squares that n vectors are cut into: lane g n + r of vector c from lane g n + c of vector r."""
    vectors = list(vectors)
    step = 1
    while step < len(vectors):
        even = [lane + lanes - step if lane & step else lane for lane in range(lanes)]
        odd = [lane + lanes if lane & step else lane + step for lane in range(lanes)]
        masks = [ir.Constant(llvm_type(lanes, INT32), mask) for mask in (even, odd)]
        for r in range(len(vectors)):
            if not r & step:
                a, b = vectors[r], vectors[r + step]
                vectors[r], vectors[r + step] = (builder.shuffle_vector(a, b, mask) for mask in masks)
        step *= 2
    return vectors


@intrinsic
def load_planes(typing: Any, array: Any, index: Any, channels: Any, lanes: Any) -> Any:
    """load_planes(array, index, channels, lanes): channels.width planes of the lanes.width pixels from index on."""
    count, width = channels.width, lanes.width
    planes = types.UniTuple(Vector(width), count)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        places = [builder.add(arguments[1], ir.Constant(arguments[1].type, k * width)) for k in range(count)]
        pointers = [pointer_to(context, builder, array, arguments[0], place, width) for place in places]
        loaded = [builder.load(pointer, align=4) for pointer in pointers]
        return context.make_tuple(builder, planes, _transposed(builder, loaded, width))

    return planes(array, types.intp, channels, lanes), generate


@intrinsic
def store_planes(typing: Any, array: Any, index: Any, planes: Any) -> Any:
    """store_planes(array, index, planes): the counterpart."""
    count, width = planes.count, planes.dtype.width

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        vectors = [builder.extract_value(arguments[2], k) for k in range(count)]
        for k, vector in enumerate(_transposed(builder, vectors, width)):
            place = builder.add(arguments[1], ir.Constant(arguments[1].type, k * width))
            builder.store(vector, pointer_to(context, builder, array, arguments[0], place, width), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, planes), generate


def _over(combine: Callable[[ir.IRBuilder, Any, Any], Any]) -> Any:
    """Make a function that combines all channels of a pixel."""

    @intrinsic
    def over(typing: Any, planes: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            vectors = [builder.extract_value(arguments[0], k) for k in range(planes.count)]
            return reduce(partial(combine, builder), vectors)

        return planes.dtype(planes), generate

    return over


largest = _over(larger)
"""largest(planes): the largest of a pixel's channels."""

total = _over(lambda builder, a, b: builder.fadd(a, b, flags=FAST))
"""total(planes): the sum of a pixel's channels."""


def _each(compute: Callable[[ir.IRBuilder, Any, Any], Any]) -> Any:
    """Make a function that computes every plane anew from itself and a vector."""

    @intrinsic
    def each(typing: Any, planes: Any, vector: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            vectors = [builder.extract_value(arguments[0], k) for k in range(planes.count)]
            return context.make_tuple(builder, planes, [compute(builder, x, arguments[1]) for x in vectors])

        return planes(planes, vector), generate

    return each


shifted = _each(lambda builder, x, v: builder.fadd(x, v, flags=FAST))
"""shifted(planes, v): v added to every plane."""

scaled = _each(lambda builder, x, v: builder.fmul(x, v, flags=FAST))
"""scaled(planes, v): v times every plane."""

exp_beyond = _each(lambda builder, x, v: exp_of(builder, builder.fsub(x, v, flags=FAST), x.type.count))
"""exp_beyond(planes, v): exp(plane - v) of every plane."""
