"""The innermost part of the walk's product: sums by column offset of 16 pixels, all at once in vector registers.

Radius 5 has nine column offsets; with three maps that makes 27 sums, and with a row's three vectors of maps and one of
weights 31 of 32 registers (AVX-512). So each vector of maps is loaded once for all its columns; one column after the
other, as loops would have it, most would be loaded four times, and the units that load are as busy as those that
multiply. The code is laid out here, not by loops, since a register has no index.
"""

# ruff: noqa: ARG001 - Numba calls with all arguments, and finds those of an intrinsic by name
# mypy: disable-error-code="untyped-decorator"

from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from camshaft.kernels.simd.vector import FAST, call, constant, llvm_type
from camshaft.kernels.walk.bundle import LANES
from camshaft.kernels.walk.stencil import column_heights

REGISTERS = 27
"""Sums at once; more columns than that are summed in turns."""

Read = Callable[..., Any]


def _turns(reach: int, maps: int) -> Iterator[list[int]]:
    """The column offsets -reach … reach, cut into parts whose sums fit the registers."""
    offsets = sorted(range(-reach, reach + 1), key=lambda dx: (abs(dx), -dx))
    size = max(1, REGISTERS // maps)
    for first in range(0, len(offsets), size):
        yield offsets[first : first + size]


def _fused(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    """a b + c. Of two products and their sum LLVM would keep the factors of the first, in more registers."""
    return call(builder, f"llvm.fmuladd.v{LANES}f32", llvm_type(LANES), [a, b, c], FAST)


def _unknown(builder: ir.IRBuilder, value: Any) -> Any:
    """The value, as if it could be another one each time: what is computed from it does not leave the loop around.

    Otherwise the addresses of all 68 weights would be computed beforehand and kept in memory, a load more for each.
    """
    return builder.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], side_effect=True)


def _sums(builder: ir.IRBuilder, offsets: list[int], reach: int, maps: int, weight: Read, value: Read) -> list[Any]:
    """For each of the column offsets and maps Σ_dy w(q - dx, dy, dx) x[q + dy].

    weight(rows, dy, dx, shift) is the vector of weights of the pairs with first pixels so many rows below, from
    x - shift on, and value(dy, k) that of map k, dy rows below.
    """
    heights = column_heights(reach + 1).tolist()
    sums = [[constant(LANES, 0)] * maps for _ in offsets]
    for distance in range(reach + 1):
        for dy in sorted({distance, -distance}, reverse=True):
            values = [value(dy, k) for k in range(maps)]
            for at, dx in enumerate(offsets):
                if distance > heights[abs(dx)] or dx == dy == 0:
                    continue
                # a pair is held by its first pixel: q - dx, or that dy rows above it, which is its neighbour
                first = dy > 0 or (dy == 0 and dx > 0)
                weights = weight(0, dy, dx, dx) if first else weight(dy, -dy, -dx, 0)
                sums[at] = [_fused(builder, weights, x, s) for x, s in zip(values, sums[at], strict=True)]
    return [one for column in sums for one in column]


@intrinsic
def store_column_sums(
    typing: Any,
    weights: Any,
    pairs: Any,
    line: Any,
    x: Any,
    here: Any,
    row: Any,
    sums: Any,
    there: Any,
    stride: Any,
    columns: Any,
    maps: Any,
) -> Any:
    """store_column_sums(weights, pairs, line, x, here, row, sums, there, stride, columns, maps).

    Put s_dx of 16 pixels (product.py) of K maps into `sums`: map k of the column offset dx at
    there + ((dx + R) K + k) stride.

    Args:
        weights: as layout.py has them, whose place for the pixels' row and dy = dx = 0 is `pairs`.
        line: from one dx to the next.
        x: the maps, where `here` is the pixels' place, and `row` floats lie between two rows.
        sums: where the results go.
        columns, maps: tuples whose lengths are R and K.
    """
    reach, count = columns.count, maps.count

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        pairs, line, here, row, there, stride = (arguments[k] for k in (1, 2, 4, 5, 7, 8))
        line = _unknown(builder, line)

        def pointer(which: int, index: Any) -> Any:
            data = make_array(signature.args[which])(context, builder, arguments[which]).data
            return builder.bitcast(builder.gep(data, [index]), llvm_type(LANES).as_pointer())

        def beyond(start: Any, steps: int, length: Any, floats: int = 0) -> Any:
            way = builder.mul(length, ir.Constant(length.type, steps))
            return builder.add(builder.add(start, way), ir.Constant(start.type, floats))

        def weight(rows: int, dy: int, dx: int, shift: int) -> Any:
            lines = (rows * (reach + 1) + dy) * (2 * reach + 1) + dx
            return builder.load(pointer(0, beyond(pairs, lines, line, -shift)), align=4)

        def value(dy: int, k: int) -> Any:
            return builder.load(pointer(3, beyond(here, dy, row, k * LANES)), align=4)

        for offsets in _turns(reach, count):
            results = _sums(builder, offsets, reach, count, weight, value)
            for at, result in enumerate(results):
                column = (offsets[at // count] + reach) * count + at % count
                builder.store(result, pointer(6, beyond(there, column, stride)), align=4)
        return context.get_dummy_value()

    number = types.intp
    return (
        types.void(weights, number, number, x, number, number, sums, number, number, columns, maps),
        generate,
    )
