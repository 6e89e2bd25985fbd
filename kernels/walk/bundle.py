"""A bundle: 16 neighbouring pixels of each of K maps, held in K vector registers of a compiled (Numba) function.

K is the length of a tuple that the compiled function gets as an argument, so that the function is compiled once for
each K. Arithmetic is that of kernels/simd, and there are no bounds checks.
"""

# ruff: noqa: ARG001 - Numba and LLVM call with all arguments, and find those of an intrinsic by name
# mypy: disable-error-code="untyped-decorator"

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from camshaft.kernels.simd.vector import FAST, Lanes, Vector, call, constant, llvm_type

LANES = 16
PIXELS = Lanes(LANES)
TINY = 1e-18
"""What `flushed` takes for zero: products of more than it with weights that count stay clear of denormal numbers, which
are many times slower."""

_VECTOR = Vector(LANES)


def _pointers(context: Any, builder: ir.IRBuilder, kind: Any, arguments: Any, *, count: int) -> list[Any]:
    """Pointers to the vectors at arguments = (array, index, stride, …)."""
    array, index, stride = arguments[:3]
    data = make_array(kind)(context, builder, array).data
    steps = [builder.add(index, builder.mul(stride, ir.Constant(stride.type, k))) for k in range(count)]
    return [builder.bitcast(builder.gep(data, [step]), llvm_type(LANES).as_pointer()) for step in steps]


@intrinsic
def load_bundle(typing: Any, array: Any, index: Any, stride: Any, maps: Any) -> Any:
    """load_bundle(array, index, stride, maps): of map k the 16 floats from array[index + k * stride] on."""
    bundle = types.UniTuple(_VECTOR, maps.count)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        pointers = _pointers(context, builder, array, arguments, count=bundle.count)
        return context.make_tuple(builder, bundle, [builder.load(pointer, align=4) for pointer in pointers])

    return bundle(array, types.intp, types.intp, maps), generate


@intrinsic
def store_bundle(typing: Any, array: Any, index: Any, stride: Any, bundle: Any) -> Any:
    """store_bundle(array, index, stride, bundle): the counterpart of load_bundle."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        pointers = _pointers(context, builder, array, arguments, count=bundle.count)
        for k, pointer in enumerate(pointers):
            builder.store(builder.extract_value(arguments[3], k), pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, bundle), generate


def _for_each_map(builder: ir.IRBuilder, context: Any, bundle: Any, compute: Callable[[int], Any]) -> Any:
    return context.make_tuple(builder, bundle, [compute(k) for k in range(bundle.count)])


@intrinsic
def added(typing: Any, bundle: Any, other: Any) -> Any:
    """added(x, y): x + y for every map."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        x, y = arguments
        return _for_each_map(
            builder,
            context,
            bundle,
            lambda k: builder.fadd(builder.extract_value(x, k), builder.extract_value(y, k), flags=FAST),
        )

    return bundle(bundle, other), generate


@intrinsic
def accumulated(typing: Any, vector: Any, bundle: Any, sums: Any) -> Any:
    """accumulated(v, x, s): v x + s for every map, as one instruction where the machine has it."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        v, x, s = arguments

        def compute(k: int) -> Any:
            product = builder.fmul(v, builder.extract_value(x, k), flags=FAST)
            return builder.fadd(product, builder.extract_value(s, k), flags=FAST)

        return _for_each_map(builder, context, bundle, compute)

    return bundle(vector, bundle, sums), generate


@intrinsic
def flushed(typing: Any, bundle: Any) -> Any:
    """flushed(x): x, or 0 where |x| < TINY."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        def compute(k: int) -> Any:
            x = builder.extract_value(arguments[0], k)
            small = builder.fcmp_ordered("<", _magnitude(builder, x), constant(LANES, TINY))
            return builder.select(small, constant(LANES, 0), x)

        return _for_each_map(builder, context, bundle, compute)

    return bundle(bundle), generate


@intrinsic
def total_distance(typing: Any, bundle: Any, other: Any) -> Any:
    """total_distance(x, y): Σ_k |x_k - y_k|, one vector."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        x, y = arguments
        terms = [
            _magnitude(builder, builder.fsub(builder.extract_value(x, k), builder.extract_value(y, k), flags=FAST))
            for k in range(bundle.count)
        ]
        while len(terms) > 1:  # by pairs, so that no addition waits for all before it
            pairs = list(zip(terms[::2], terms[1::2], strict=False))
            terms = terms[len(terms) - len(terms) % 2 :] + [builder.fadd(a, b, flags=FAST) for a, b in pairs]
        return terms[0]

    return _VECTOR(bundle, other), generate


def _magnitude(builder: ir.IRBuilder, vector: Any) -> Any:
    return call(builder, f"llvm.fabs.v{LANES}f32", llvm_type(LANES), [vector])
