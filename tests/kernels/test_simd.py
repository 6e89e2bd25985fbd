from typing import Any

import numpy as np
import pytest

from camshaft.kernels import simd
from camshaft.kernels.compiled import compiled

WIDTHS = pytest.mark.parametrize("width", [1, 4, 8, 16])
FOUR = simd.Lanes(4)


@compiled()
def apply_exp(lanes: Any, source: Any, target: Any) -> None:
    for i in range(0, len(source), lanes.width):
        simd.store(target, i, simd.exp(simd.load(source, i, lanes)))


@compiled(fastmath=True)
def apply_exp_fast(lanes: Any, source: Any, target: Any) -> None:
    for i in range(0, len(source), lanes.width):
        simd.store(target, i, simd.exp(simd.load(source, i, lanes)))


@compiled()
def apply_log(lanes: Any, source: Any, target: Any) -> None:
    for i in range(0, len(source), lanes.width):
        simd.store(target, i, simd.log(simd.load(source, i, lanes)))


@compiled()
def arithmetic(lanes: Any, a: Any, b: Any, target: Any) -> None:
    x, y = simd.load(a, 0, lanes), simd.load(b, 0, lanes)
    simd.store(target, 0, (x - np.float32(2) * y) / (np.float32(3) + x * y) + simd.maximum(x, y) * simd.minimum(x, y))
    simd.add_to_sum(target, 0, simd.broadcast(np.float32(1), lanes), np.float32(1))


@compiled()
def within_fours(lanes: Any, source: Any, sums: Any, largest: Any, repeated: Any) -> None:
    vector = simd.load(source, 0, lanes)
    simd.store(sums, 0, simd.sum_among(vector, FOUR))
    simd.store(largest, 0, simd.max_among(vector, FOUR))
    simd.store(repeated, 0, simd.load_repeated(source, 2, FOUR, lanes))


@compiled()
def through_planes(channels: Any, lanes: Any, source: Any, back: Any, results: Any) -> None:
    """Copy by way of planes; results: largest, sum, and of every plane 3 (plane + 2) and exp(plane - largest)."""
    planes = simd.load_planes(source, 0, channels, lanes)
    simd.store_planes(back, 0, planes)
    most = simd.largest(planes)
    simd.store(results[0], 0, most)
    simd.store(results[1], 0, simd.total(planes))
    number = np.float32
    three, two = simd.broadcast(number(3), lanes), simd.broadcast(number(2), lanes)
    simd.store_planes(results[2], 0, simd.scaled(simd.shifted(planes, two), three))
    simd.store_planes(results[3], 0, simd.exp_beyond(planes, most))


@compiled()
def add_up(lanes: Any, terms: Any, order: Any, sums: Any, unit: Any, result: Any) -> None:
    """Add terms in an order to both halves of the sums, then these to each other, and take the result."""
    half = len(sums) // 2
    for k in order:
        term = simd.load(terms, k * lanes.width, lanes)
        simd.add_to_sum(sums, k % 2 * half, term, np.float32(1) / unit)
    simd.move_sum(sums, half, 0, lanes)
    simd.store(result, 0, simd.take_sum(sums, 0, lanes, unit))
    simd.store_terms(sums, half, simd.load(terms, 0, lanes), np.float32(1) / unit)


@compiled()
def outside(lanes: Any, source: Any, lowest: Any, highest: Any) -> bool:
    return simd.any_outside(simd.load(source, 0, lanes), lowest, highest)


@compiled()
def move(source: Any, target: Any) -> None:
    for i in range(len(source)):
        simd.poke(target, len(source) - 1 - i, simd.peek(source, i))


def values(seed: int, size: int = 16) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).uniform(0.5, 2, size).astype(np.float32)


@WIDTHS
@pytest.mark.parametrize("apply", [apply_exp, apply_exp_fast])
def test_exp_within_its_bound(width: int, apply: Any) -> None:
    x = np.linspace(-59.9, 80, 1 << 14).astype(np.float32)
    result = np.full_like(x, np.nan)
    apply(simd.Lanes(width), x, result)
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(result - exact) <= exact * (2.0**-22 + 2.0**-23 * np.abs(x))).all()


def test_exp_is_zero_far_down_and_finite_far_up() -> None:
    x = np.array([-1e30, -1000, -60.1, 0, 81, 1000, 1e30, -0.0], np.float32)
    result = np.full_like(x, np.nan)
    apply_exp(FOUR, x, result)
    assert (result[:3] == 0).all()
    np.testing.assert_allclose(result[[3, 7]], 1, rtol=2e-7)
    assert np.isfinite(result).all()
    assert (result[4:7] == result[4]).all()


@WIDTHS
def test_log_of_normal_numbers(width: int) -> None:
    x = np.geomspace(1e-30, 1e30, 1 << 14).astype(np.float32)
    result = np.full_like(x, np.nan)
    apply_log(simd.Lanes(width), x, result)
    np.testing.assert_allclose(result, np.log(x.astype(np.float64)), rtol=1e-6, atol=2e-7)


@WIDTHS
def test_arithmetic_is_numpys(width: int) -> None:
    a, b, target = values(1, width), values(2, width), np.full(width, np.nan, np.float32)
    arithmetic(simd.Lanes(width), a, b, target)
    np.testing.assert_allclose(target, (a - 2 * b) / (3 + a * b) + np.maximum(a, b) * np.minimum(a, b) + 1, rtol=1e-6)


@pytest.mark.parametrize("width", [4, 8, 16])
def test_groups_of_four_lanes(width: int) -> None:
    source = values(3)
    sums, largest, repeated = (np.full(width, np.nan, np.float32) for _ in range(3))
    within_fours(simd.Lanes(width), source, sums, largest, repeated)
    fours = source[:width].reshape(-1, 4)
    np.testing.assert_allclose(sums, np.repeat(fours.sum(1), 4), rtol=1e-6)
    np.testing.assert_array_equal(largest, np.repeat(fours.max(1), 4))
    np.testing.assert_array_equal(repeated, np.repeat(source[2 : 2 + width // 4], 4))


@WIDTHS
def test_a_single_lane_outside_is_seen(width: int) -> None:
    low, high = np.float32(-1), np.float32(2)
    inside = np.resize(np.array([-1, 2, -0.0, 1.5], np.float32), width)
    assert not outside(simd.Lanes(width), inside, low, high)
    for wrong in (-1.0001, 2.0001, np.inf, -np.inf, np.nan):
        for lane in range(width):
            values_ = inside.copy()
            values_[lane] = wrong
            assert outside(simd.Lanes(width), values_, low, high)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64, np.uint8])
def test_peek_and_poke_any_type(dtype: type[np.generic]) -> None:
    source = np.arange(5).astype(dtype)
    target = np.zeros_like(source)
    move(source, target)
    np.testing.assert_array_equal(target, source[::-1])


@pytest.mark.parametrize("channels", [1, 2, 4, 8])
@pytest.mark.parametrize("width", [8, 16])
def test_planes_are_the_channels_of_all_pixels(channels: int, width: int) -> None:
    source = np.random.default_rng(channels).standard_normal(channels * width).astype(np.float32)
    back = np.full_like(source, np.nan)
    results = np.full((4, channels * width), np.nan, np.float32)
    through_planes(simd.Lanes(channels), simd.Lanes(width), source, back, results)
    np.testing.assert_array_equal(back, source)
    pixels = source.reshape(width, channels)
    order = [(k % channels) * (width // channels) + k // channels for k in range(width)]
    np.testing.assert_array_equal(results[0, :width], pixels.max(1)[order])
    np.testing.assert_allclose(results[1, :width], pixels.sum(1)[order], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(results[2], 3 * (source + 2), rtol=1e-6)
    np.testing.assert_allclose(results[3].reshape(width, channels), np.exp(pixels - pixels.max(1)[:, None]), rtol=1e-6)


@WIDTHS
def test_whole_sums_are_the_same_in_any_order(width: int) -> None:
    rng = np.random.default_rng(width)
    terms = rng.uniform(-1, 1, (500, width)).astype(np.float32)
    exact, unit = terms.astype(np.float64).sum(0), np.float32(2.0**-20)
    for dtype, tolerance in ((np.float32, 1e-3), (np.int32, 500 * 2.0**-21)):
        results = []
        for _ in range(3):
            sums, result = np.zeros(2 * width, dtype), np.full(width, np.nan, np.float32)
            add_up(simd.Lanes(width), terms.reshape(-1), rng.permutation(500), sums, unit, result)
            np.testing.assert_allclose(result, exact, atol=tolerance)
            assert (sums[:width] == 0).all()
            first = terms[0] if dtype == np.float32 else np.rint(terms[0] / unit)
            np.testing.assert_array_equal(sums[width:], first)
            results.append(result)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
