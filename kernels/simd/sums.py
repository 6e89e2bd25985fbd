"""Sums in memory, as float32 or in whole numbers: int32 sums are the same in whatever order their terms come.

Each function takes arrays of either kind. A term of an int32 sum is rounded to a multiple of `unit`, and `scale` is
1 / unit; float32 sums take terms as they are, and pay no attention to either.
"""

# ruff: noqa: ARG001 - Numba calls with all arguments, and finds those of an intrinsic by name

from typing import Any

from llvmlite import ir
from numba import types
from numba.np.arrayobj import make_array

from camshaft.kernels.simd.vector import FAST, FLOAT, INT32, Vector, broadcast_to, call, intrinsic, llvm_type


class _Sums:
    """Vectors of an array of sums."""

    def __init__(self, context: Any, builder: ir.IRBuilder, kind: Any, array: Any, width: int) -> None:
        self.builder, self.width, self.whole = builder, width, kind.dtype == types.int32
        self.type = llvm_type(width, INT32 if self.whole else FLOAT)
        self.data = make_array(kind)(context, builder, array).data

    def _pointer(self, index: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(self.data, [index]), self.type.as_pointer())

    def load(self, index: Any) -> Any:
        return self.builder.load(self._pointer(index), align=4)

    def store(self, vector: Any, index: Any) -> None:
        self.builder.store(vector, self._pointer(index), align=4)

    def clear(self, index: Any) -> None:
        self.store(ir.Constant(self.type, None), index)

    def add(self, vector: Any, index: Any) -> None:
        before = self.load(index)
        total = self.builder.add(before, vector) if self.whole else self.builder.fadd(before, vector, flags=FAST)
        self.store(total, index)

    def term(self, vector: Any, scale: Any) -> Any:
        if not self.whole:
            return vector
        scaled = self.builder.fmul(vector, broadcast_to(self.builder, scale, self.width), flags=FAST)
        rounded = call(self.builder, f"llvm.nearbyint.v{self.width}f32", llvm_type(self.width), [scaled])
        return self.builder.fptosi(rounded, self.type)

    def value(self, sums: Any, unit: Any) -> Any:
        if not self.whole:
            return sums
        converted = self.builder.sitofp(sums, llvm_type(self.width))
        return self.builder.fmul(converted, broadcast_to(self.builder, unit, self.width), flags=FAST)


@intrinsic
def add_to_sum(typing: Any, array: Any, index: Any, vector: Any, scale: Any) -> Any:
    """add_to_sum(array, index, vector, scale): array[index : index + width] += vector."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        sums = _Sums(context, builder, array, arguments[0], vector.width)
        sums.add(sums.term(arguments[2], arguments[3]), arguments[1])
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, types.float32), generate


@intrinsic
def store_terms(typing: Any, array: Any, index: Any, vector: Any, scale: Any) -> Any:
    """store_terms(array, index, vector, scale): array[index : index + width] = vector."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        sums = _Sums(context, builder, array, arguments[0], vector.width)
        sums.store(sums.term(arguments[2], arguments[3]), arguments[1])
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, types.float32), generate


@intrinsic
def move_sum(typing: Any, array: Any, source: Any, target: Any, lanes: Any) -> Any:
    """move_sum(array, source, target, lanes): add the sums at index source to those at target, and clear them."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        sums = _Sums(context, builder, array, arguments[0], lanes.width)
        sums.add(sums.load(arguments[1]), arguments[2])
        sums.clear(arguments[1])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, lanes), generate


@intrinsic
def take_sum(typing: Any, array: Any, index: Any, lanes: Any, unit: Any) -> Any:
    """take_sum(array, index, lanes, unit): array[index : index + width] as float32; they are cleared."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        sums = _Sums(context, builder, array, arguments[0], lanes.width)
        value = sums.value(sums.load(arguments[1]), arguments[3])
        sums.clear(arguments[1])
        return value

    return Vector(lanes.width)(array, types.intp, lanes, types.float32), generate
