"""exp and log of short vectors."""

# ruff: noqa: ARG001 - Numba calls with all arguments, and finds those of an intrinsic by name

from typing import Any

from llvmlite import ir

from camshaft.kernels.simd.vector import FAST, INT32, constant, intrinsic, llvm_type

CONTRACT = ("contract",)  # a product and a sum may be fused; the range reduction bears nothing more
LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453
EXP_LARGEST = 80.0
EXP_ZERO = -60.0
ROUNDING = 1.5 * 2**23
# 2^f on [-1/2, 1/2], minimax of degree 5, highest power first
EXP2_COEFFICIENTS = (
    0.0013276471737177636,
    0.009675541540091608,
    0.05550713276094001,
    0.24022119720074556,
    0.6931469670620425,
    1.0000000716554331,
)
# log((1 + s) / (1 - s)) / s in powers of s^2, highest first
LOG_COEFFICIENTS = (0.24, 0.28571429, 0.4, 0.66666667, 2.0)


def _polynomial(builder: ir.IRBuilder, x: Any, coefficients: tuple[float, ...], width: int) -> Any:
    value = constant(width, coefficients[0])
    for coefficient in coefficients[1:]:
        product = builder.fmul(value, x, flags=CONTRACT)
        value = builder.fadd(product, constant(width, coefficient), flags=CONTRACT)
    return value


def _integers(width: int, value: int) -> ir.Constant:
    return ir.Constant(llvm_type(width, INT32), [value] * width)


def exp_of(builder: ir.IRBuilder, x: Any, width: int) -> Any:
    """Generate exp of a vector, as `exp` describes it."""
    ints = llvm_type(width, INT32)
    keep = builder.fcmp_ordered(">", x, constant(width, EXP_ZERO), flags=FAST)
    x = builder.select(builder.fcmp_ordered("<", x, constant(width, EXP_LARGEST), flags=FAST), x,
                       constant(width, EXP_LARGEST))  # fmt: skip
    scaled = builder.fmul(x, constant(width, LOG2_E), flags=CONTRACT)
    # as large as ROUNDING numbers have no fraction: the sum is rounded, and its lowest bits are the whole number; it
    # must come back through integers, as LLVM may undo an addition
    rounded = builder.fadd(scaled, constant(width, ROUNDING), flags=CONTRACT)
    whole = builder.sub(builder.bitcast(rounded, ints), builder.bitcast(constant(width, ROUNDING), ints))
    fraction = builder.fsub(scaled, builder.sitofp(whole, llvm_type(width)), flags=CONTRACT)
    power = _polynomial(builder, fraction, EXP2_COEFFICIENTS, width)
    bits = builder.add(builder.bitcast(power, ints), builder.shl(whole, _integers(width, 23)))
    return builder.select(keep, builder.bitcast(bits, llvm_type(width)), constant(width, 0))


@intrinsic
def exp(typing: Any, vector: Any) -> Any:
    """exp(vector), with a relative error of at most 2^-22 + 2^-23 |x|.

    Exactly 0 below -60, so that no denormals arise (they are 30 times slower); clamped above 80.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return exp_of(builder, arguments[0], vector.width)

    return vector(vector), generate


@intrinsic
def log(typing: Any, vector: Any) -> Any:
    """log(vector) of positive normal numbers, with a relative error of about 1e-6, or 2e-7 near 1."""
    width = vector.width

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        ints, half_root = llvm_type(width, INT32), _integers(width, 0x3F3504F3)  # the bits of sqrt(1/2)
        shifted = builder.sub(builder.bitcast(arguments[0], ints), half_root)
        exponent = builder.sitofp(builder.ashr(shifted, _integers(width, 23)), llvm_type(width))
        mantissa = builder.add(builder.and_(shifted, _integers(width, 0x007FFFFF)), half_root)
        excess = builder.fsub(builder.bitcast(mantissa, llvm_type(width)), constant(width, 1))
        s = builder.fdiv(excess, builder.fadd(excess, constant(width, 2)))
        series = builder.fmul(_polynomial(builder, builder.fmul(s, s), LOG_COEFFICIENTS, width), s)
        return builder.fadd(builder.fmul(exponent, constant(width, LN_2), flags=CONTRACT), series, flags=CONTRACT)

    return vector(vector), generate
