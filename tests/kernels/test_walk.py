import logging
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial.chebyshev import chebval
from numpy.typing import NDArray

from camshaft.kernels.choice import Unavailable
from camshaft.kernels.walk import affinities, half_disc, operation, reference, walk
from camshaft.kernels.walk.polynomial import power_coefficients, stretch

Array = NDArray[np.float32]
BOTH = pytest.mark.parametrize("implementation", ["numba", "reference"])
METHODS = pytest.mark.parametrize("method", ["chebyshev", "steps"])
SIZES = [(1, 1), (1, 7), (9, 1), (3, 2), (4, 8), (5, 9), (16, 16), (17, 33), (9, 63)]


def embedding(size: tuple[int, int], channels: int = 11, seed: int = 0, gain: float = 0.6) -> Array:
    rng = np.random.default_rng(seed)
    return (gain * rng.standard_normal((channels, *size))).astype(np.float32)


def seeds(count: int, size: tuple[int, int], seed: int = 1) -> Array:
    return np.random.default_rng(seed).random((count, *size), np.float32)


def test_the_half_disc_by_hand() -> None:
    assert half_disc(2).tolist() == [[0, 1], [1, -1], [1, 0], [1, 1]]
    assert len(half_disc(5)) == 34
    assert len(half_disc(10)) == 152
    offsets = half_disc(5)
    both = np.concatenate([offsets, -offsets])
    assert len(np.unique(both, axis=0)) == 68  # no pair twice
    assert (np.square(both).sum(axis=1) < 25).all()
    with pytest.raises(ValueError, match="radius must be at least 2, not 1"):
        half_disc(1)


@BOTH
def test_a_row_of_three_pixels_by_hand(implementation: str) -> None:
    features = np.log(np.array([[[1, 2, 8]]], np.float32))
    planes = affinities(features, 2, "none", implementation=implementation)
    np.testing.assert_allclose(planes[0], [[1 / 2, 1 / 4, 0]], rtol=1e-6)
    assert not planes[1:].any()
    # with beta 2: weights 1, 1/4; 1/4, 1, 1/16; 1/16, 1, over their sums
    maps = np.array([[[1, 0, 0]]], np.float32)
    once = walk(planes, maps, radius=2, beta=2, steps=1, method="steps", implementation=implementation)
    np.testing.assert_allclose(once, [[[4 / 5, 4 / 21, 0]]], rtol=1e-6)
    twice = walk(planes, maps, radius=2, beta=2, steps=2, method="steps", implementation=implementation)
    expected = [4 / 5 * 4 / 5 + 1 / 5 * 4 / 21, 4 / 21 * 4 / 5 + 16 / 21 * 4 / 21, 1 / 17 * 4 / 21]
    np.testing.assert_allclose(twice, [[expected]], rtol=1e-6)


@BOTH
def test_the_border_rule_keeps_first_pixels_off_three_sides(implementation: str) -> None:
    planes = affinities(np.zeros((1, 7, 12), np.float32), 5, "psa", implementation=implementation)
    expected = np.zeros((34, 7, 12))
    expected[:, :3, 4:8] = 1
    assert planes.tolist() == expected.tolist()
    small = affinities(np.zeros((1, 4, 8), np.float32), 5, "psa", implementation=implementation)
    assert not small.any()


@pytest.mark.parametrize("border", ["psa", "none"])
@pytest.mark.parametrize(("radius", "channels"), [(5, 3), (5, 8), (10, 17)])
@pytest.mark.parametrize("size", SIZES)
def test_affinities_equal_their_definition(size: tuple[int, int], radius: int, channels: int, border: str) -> None:
    features = embedding(size, channels)
    fast = affinities(features, radius, border)
    plain = affinities(features, radius, border, implementation="reference")
    np.testing.assert_allclose(fast, plain, rtol=0, atol=1e-6)
    assert ((fast > 0) == (plain > 0)).all()


def test_many_channels_and_views() -> None:
    features = embedding((19, 25), 448)
    view = np.asfortranarray(features)[:, ::2, 1:]
    plain = reference.affinities(view, 5, "none")
    np.testing.assert_allclose(affinities(view, 5, "none"), plain, rtol=0, atol=1e-6)


@METHODS
@pytest.mark.parametrize(("radius", "beta"), [(5, 8), (10, 10), (3, 0.5)])
@pytest.mark.parametrize("size", SIZES)
def test_the_walk_equals_the_dense_power(size: tuple[int, int], radius: int, beta: float, method: str) -> None:
    for border, count in (("psa", 3), ("none", 2)):
        planes = affinities(embedding(size), radius, border)
        maps = seeds(count, size)
        plain = reference.walk(planes, maps, radius, beta, 256)
        fast = walk(planes, maps, radius=radius, beta=beta, method=method)  # type: ignore[arg-type]
        assert np.abs(fast - plain).max() < (1e-4 if method == "chebyshev" else 1e-5)


@pytest.mark.parametrize("gain", [0.05, 1.0])
def test_the_walk_on_a_larger_grid(gain: float) -> None:
    size = (28, 41)
    planes, maps = affinities(embedding(size, gain=gain), 5), seeds(4, size)
    maps[0, 10:] = 0  # most of a map is empty as a rule
    plain = reference.walk(planes, maps, 5, 8, 256)
    assert np.abs(walk(planes, maps) - plain).max() < 1e-4
    assert np.abs(walk(planes, maps, method="steps") - plain).max() < 1e-5


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 40)),
    count=st.integers(1, 7),
    radius=st.sampled_from([2, 3, 5, 6]),  # each is compiled
    steps=st.sampled_from([0, 1, 2, 3, 7, 64, 300]),
    beta=st.sampled_from([0.0, 1.0, 3.0, 8.0, 16.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_size_any_number_of_maps(
    size: tuple[int, int], count: int, radius: int, steps: int, beta: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # any weights, also where the partner lies outside: those must not count
    planes = rng.random((len(half_disc(radius)), *size), np.float32) ** 4
    maps = seeds(count, size, seed)
    plain = reference.walk(planes, maps, radius, beta, steps)
    for method in ("chebyshev", "steps"):
        fast = walk(planes, maps, radius=radius, beta=beta, steps=steps, method=method)
        assert fast.shape == maps.shape
        assert fast.dtype == np.float32
        np.testing.assert_allclose(fast, plain, rtol=0, atol=1e-4)


def test_rows_of_the_transition_matrix_sum_to_one_and_it_is_the_authors_transposed() -> None:
    planes = affinities(embedding((6, 12)), 5)
    transition = reference.transition_matrix(planes, 5, 8)
    np.testing.assert_allclose(transition.sum(axis=1), 1, atol=1e-12)
    # the authors divide the symmetric weights by their column sums
    degrees = 1 / np.diag(transition)  # the diagonal of the weights is 1
    weights = transition * degrees[:, None]
    np.testing.assert_allclose(weights, weights.T, atol=1e-12)
    np.testing.assert_allclose((weights / weights.sum(axis=0)).T, transition, atol=1e-12)


@METHODS
@pytest.mark.parametrize("gain", [0.0, 0.3, 30.0])
def test_constant_maps_stay_and_other_maps_stay_within_their_range(method: str, gain: float) -> None:
    planes = affinities(embedding((30, 41), gain=gain), 5)
    maps = np.stack([np.full((30, 41), 0.7, np.float32), seeds(1, (30, 41))[0]])
    out = walk(planes, maps, method=method)  # type: ignore[arg-type]
    np.testing.assert_allclose(out[0], 0.7, rtol=0, atol=3e-6)
    assert maps[1].min() - 1e-4 < out[1].min() <= out[1].max() < maps[1].max() + 1e-4


def test_a_tighter_tolerance_comes_closer() -> None:
    planes, maps = affinities(embedding((20, 30), gain=0.1), 5), seeds(2, (20, 30))
    plain = reference.walk(planes, maps, 5, 8, 256)
    for tolerance in (1e-1, 1e-2, 1e-3, 1e-4):
        assert np.abs(walk(planes, maps, tolerance=tolerance) - plain).max() < tolerance


def test_weights_too_small_to_count_and_denormal_numbers() -> None:
    planes = np.full((34, 12, 20), np.float32(1e-6))  # to the eighth: 1e-48
    maps = np.full((2, 12, 20), np.float32(1e-41))
    maps[1] = 0
    maps[1, 3, 3] = 1
    np.testing.assert_allclose(walk(planes, maps), maps, rtol=0, atol=1e-6)


def test_the_inputs_stay_as_they_are_and_threads_do_not_disturb_each_other() -> None:
    size = (23, 37)
    planes = [affinities(embedding(size, seed=seed), 5) for seed in range(4)]
    maps = [seeds(3, size, seed) for seed in range(4)]
    kept = [m.copy() for m in maps]
    alone = [walk(p, m) for p, m in zip(planes, maps, strict=True)]
    together: dict[int, Array] = {}

    def work(k: int) -> None:
        for _ in range(5):
            together[k] = walk(planes[k], maps[k])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        np.testing.assert_array_equal(together[k], alone[k])
        np.testing.assert_array_equal(maps[k], kept[k])


@METHODS
@pytest.mark.parametrize("size", [(1, 7), (4, 8), (17, 33)])
def test_threads_share_the_rows_of_a_walk_and_change_nothing(size: tuple[int, int], method: str) -> None:
    planes, maps = affinities(embedding(size), 5), seeds(4, size)
    alone = walk(planes, maps, method=method, steps=17)
    for threads in (2, 3, 50):
        np.testing.assert_array_equal(walk(planes, maps, method=method, steps=17, threads=threads), alone)


def test_a_grid_too_wide_for_the_compiled_walk_falls_back_once_aloud(caplog: pytest.LogCaptureFixture) -> None:
    planes, maps = np.zeros((4, 1, 1025), np.float32), seeds(1, (1, 1025))
    with caplog.at_level(logging.INFO, "camshaft.kernels"):
        np.testing.assert_allclose(walk(planes, maps, radius=2, steps=2), maps, rtol=1e-6)
    assert "walk: reference (numba: the grid is 1025 pixels wide, more than 1024)" in caplog.text
    with pytest.raises(Unavailable, match="1025 pixels wide"):
        walk(planes, maps, radius=2, implementation="numba")
    wide, free = maps[:, :, :1024], np.ones((4, 1, 1024), np.float32)
    plain = reference.walk(free, wide, 2, 1, 2)
    np.testing.assert_allclose(walk(free, wide, radius=2, steps=2, implementation="numba"), plain, atol=1e-4)


def test_bad_arguments_are_named() -> None:
    planes, maps = np.zeros((34, 6, 7), np.float32), np.zeros((2, 6, 7), np.float32)
    with pytest.raises(ValueError, match=r"needs planes \(34, 6, 7\), not \(33, 6, 7\)"):
        walk(planes[1:], maps)
    with pytest.raises(ValueError, match="maps must be float32"):
        walk(planes, maps.astype(np.float64))
    with pytest.raises(ValueError, match=r"affinities must lie in \[0, 1\]"):
        walk(planes + np.float32(1.5), maps)
    with pytest.raises(ValueError, match=r"affinities must lie in \[0, 1\]"):
        walk(np.full_like(planes, np.nan), maps)
    with pytest.raises(ValueError, match="maps must be finite"):
        walk(planes, np.full_like(maps, np.inf))
    with pytest.raises(ValueError, match="steps -1"):
        walk(planes, maps, steps=-1)
    with pytest.raises(ValueError, match="not 'leap'"):
        walk(planes, maps, method="leap")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one of psa, none, not"):
        affinities(maps, 5, "open")
    with pytest.raises(ValueError, match="float32"):
        affinities(maps[0])
    with pytest.raises(Unavailable, match="triton"):
        walk(planes, maps, implementation="triton")
    assert walk(planes, maps[:0]).shape == (0, 6, 7)


def checkerboard(size: tuple[int, int]) -> Array:
    """Pixels linked to those of the other colour alone: the lowest eigenvalue of T is near -1."""
    planes = np.zeros((34, *size), np.float32)
    planes[half_disc(5).sum(axis=1) % 2 == 1] = 1
    return planes


@pytest.fixture
def intervals(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The lower ends of the intervals of all polynomials that are asked for."""
    asked: list[float] = []

    def coefficients(power: int, error: float, lowest: float) -> Array:
        asked.append(lowest)
        return power_coefficients(power, error, lowest)

    monkeypatch.setattr(operation, "power_coefficients", coefficients)
    return asked


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("steps", [1, 2, 64, 256, 1024])
def test_eigenvalues_below_the_interval_are_noticed(steps: int, threads: int, intervals: list[float]) -> None:
    size = (13, 21)
    planes, maps = checkerboard(size), seeds(4, size)
    transition = reference.transition_matrix(planes, 5, 8)
    assert np.linalg.eigvals(transition).real.min() < -0.8
    plain = reference.walk(planes, maps, 5, 8, steps)
    # half of the maps are smooth: one that has such a part is enough
    maps[:2], plain[:2] = 0.5, 0.5
    np.testing.assert_allclose(walk(planes, maps, steps=steps, threads=threads), plain, rtol=0, atol=1e-4)
    assert set(intervals) == ({-0.5, -1.0} if steps > 2 else {-0.5})  # of two steps the polynomial has all terms


@pytest.mark.parametrize("border", ["psa", "none"])
@pytest.mark.parametrize("gain", [0.0, 0.05, 1.0])
def test_affinities_keep_to_the_interval(gain: float, border: str, intervals: list[float]) -> None:
    size = (20, 33)
    planes, maps = affinities(embedding(size, gain=gain), 5, border), seeds(4, size)
    plain = reference.walk(planes, maps, 5, 8, 256)
    np.testing.assert_allclose(walk(planes, maps), plain, rtol=0, atol=1e-4)
    assert set(intervals) == {-0.5}


def test_what_a_bad_input_leaves_behind_does_no_harm() -> None:
    planes, maps = affinities(embedding((9, 20)), 5), seeds(3, (9, 20))
    plain = walk(planes, maps)
    for bad in (np.nan, np.inf, -np.inf, 3e38, -3e38):
        for size in ((9, 20), (30, 50)):
            full = np.full((34, *size), bad, np.float32)
            with pytest.raises(ValueError, match=r"affinities must lie in \[0, 1\]"):
                walk(full, seeds(3, size))
            with pytest.raises(ValueError, match="maps must be finite" if not np.isfinite(bad) else "affinities"):
                walk(np.ones_like(full) if not np.isfinite(bad) else full, full[:3])
        np.testing.assert_array_equal(walk(planes, maps), plain)


@pytest.mark.parametrize("at", [(0, 0, 0), (33, 8, 19), (20, 4, 16)])
@pytest.mark.parametrize("beta", [8.0, 3.0, 0.0])
def test_a_single_bad_value_is_noticed(at: tuple[int, int, int], beta: float) -> None:
    planes, maps = affinities(embedding((9, 20)), 5), seeds(34, (9, 20))
    for bad in (np.nan, -1e-6, 1.00001):
        wrong = planes.copy()
        wrong[at] = bad
        with pytest.raises(ValueError, match=r"affinities must lie in \[0, 1\]"):
            walk(wrong, maps[:2], beta=beta, threads=2)
    for infinite in (np.nan, -np.inf):
        wrong = maps.copy()
        wrong[at] = infinite
        with pytest.raises(ValueError, match="maps must be finite"):
            walk(planes, wrong, beta=beta, steps=3, threads=2)
    planes[at] = -0.0
    walk(planes, maps[:2], beta=beta)


@pytest.mark.parametrize("lowest", [-1.0, -0.5, 0.0])
@pytest.mark.parametrize("power", [0, 1, 2, 5, 64, 256, 1024])
@pytest.mark.parametrize("error", [1e-2, 5e-5, 1e-7])
def test_the_polynomial_keeps_its_bound(power: int, error: float, lowest: float) -> None:
    coefficients = power_coefficients(power, error, lowest)
    x = np.concatenate([np.linspace(lowest, 1, 4001), 1 - np.geomspace(1e-6, 1 - lowest, 200)])
    values = chebval(1 + stretch(lowest) * (x - 1), coefficients.astype(np.float64))
    assert np.abs(values - x**power).max() <= error + 1e-7
    assert coefficients.astype(np.float64).sum() == pytest.approx(1, abs=1e-6)
    assert len(coefficients) <= max(power, 1) + 1


@pytest.mark.parametrize("power", [2, 3, 5, 8, 16, 64, 256, 1024])
@pytest.mark.parametrize("error", [1e-2, 9e-4, 9e-5])
def test_outside_its_interval_the_polynomial_errs_less_than_its_last_term_grows(power: int, error: float) -> None:
    coefficients = power_coefficients(power, error, -0.5).astype(np.float64)
    x = np.linspace(-1, -0.5, 2001)
    beyond = 1 + stretch(-0.5) * (x - 1)
    last = np.cosh((len(coefficients) - 1) * np.arccosh(np.abs(beyond)))
    assert (np.abs(chebval(beyond, coefficients) - x**power) / last).max() <= 0.6 * error + 1e-7


def test_degree_of_the_polynomial_for_256_steps() -> None:
    assert 60 <= len(power_coefficients(256, 8e-5)) - 1 <= 68
    assert 54 <= len(power_coefficients(256, 8e-5, -0.5)) - 1 <= 58
    assert power_coefficients(4, 1e-9).tolist() == pytest.approx([3 / 8, 0, 1 / 2, 0, 1 / 8])
    # a walk that stays with probability 1/2: two steps end at 0, ±1, ±2 with 3/8, 1/4, 1/16
    assert power_coefficients(2, 1e-9, 0.0).tolist() == pytest.approx([3 / 8, 1 / 2, 1 / 8])
