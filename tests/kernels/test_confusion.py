import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camshaft.kernels.choice import Unavailable
from camshaft.kernels.confusion import confusion, mean_iou, sweep

BOTH = pytest.mark.parametrize("implementation", ["numba", "reference"])


@BOTH
def test_counts_by_hand(implementation: str) -> None:
    truth = np.array([[0, 0, 1], [2, 255, 1]], np.uint8)
    prediction = np.array([[0, 1, 1], [0, 2, 1]], np.uint8)
    matrix = confusion(prediction, truth, 3, implementation=implementation)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]


@BOTH
def test_a_sweep_by_hand_with_a_tie(implementation: str) -> None:
    scores = np.array([[[0.5, 0.25, 0.75]], [[0.25, 0.25, 0.5]]], np.float32)
    truth = np.array([[2, 2, 4]])
    matrices = sweep(scores, [2, 4], truth, [0.5, 0.1, 0.9], 5, implementation=implementation)
    assert matrices.shape == (3, 5, 5)
    expected = np.zeros((3, 5, 5), int)
    expected[0, 2, 0] = 2  # 0.5 ties with the threshold: background
    expected[0, 4, 2] = 1
    expected[1, 2, 2] = 2  # 0.25 twice: the first map
    expected[1, 4, 2] = 1
    expected[2, 2, 0] = 2
    expected[2, 4, 0] = 1
    assert matrices.tolist() == expected.tolist()


@BOTH
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint64])
def test_any_integer_type_and_layout(implementation: str, dtype: type[np.integer]) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, (9, 7)).astype(dtype)
    prediction = np.asfortranarray(rng.integers(0, 5, (9, 7)).astype(np.int16))
    expected = np.zeros((5, 5), int)
    np.add.at(expected, (truth.astype(int), prediction.astype(int)), 1)
    assert confusion(prediction, truth, 5, implementation=implementation).tolist() == expected.tolist()
    assert confusion(prediction.T[::2], truth.T[::2], 5, implementation=implementation).sum() == truth.T[::2].size


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 5), st.integers(1, 40), st.integers(1, 60)),
    thresholds=st.lists(st.one_of(st.floats(-0.5, 1.5), st.sampled_from([0.0, 0.25, 0.5, 1.0])), max_size=12),
    seed=st.integers(0, 2**32 - 1),
    quantised=st.booleans(),
    dtype=st.sampled_from([np.uint8, np.int64]),
)
def test_one_pass_equals_one_pass_a_threshold(
    shape: tuple[int, int, int], thresholds: list[float], seed: int, quantised: bool, dtype: type[np.integer]
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.random(shape, np.float32)
    if quantised:  # many ties, between maps and with the thresholds
        scores = (np.round(scores * 4) / 4).astype(np.float32)
    classes = 1 + rng.permutation(6)[: shape[0]]
    truth = rng.choice([0, 1, 2, 3, 4, 5, 6, 255], shape[1:]).astype(dtype)
    fast = sweep(scores, classes, truth, thresholds, 7)
    plain = sweep(scores, classes, truth, thresholds, 7, implementation="reference")
    np.testing.assert_array_equal(fast, plain)
    assert (fast.sum(axis=(1, 2)) == (truth != 255).sum()).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(0, 5000), classes=st.integers(1, 255))
def test_confusion_equals_its_definition(seed: int, size: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.where(rng.random(size) < 0.1, 255, rng.integers(0, classes, size))
    prediction = np.repeat(rng.integers(0, classes, size // 7 + 1), 7)[:size]
    expected = confusion(prediction, truth, classes, implementation="reference")
    np.testing.assert_array_equal(confusion(prediction, truth, classes), expected)


def test_more_pixels_than_a_block_and_thresholds_on_cell_edges() -> None:
    rng = np.random.default_rng(1)
    scores = (rng.integers(0, 1025, (3, 63, 100)) / 1024).astype(np.float32)
    truth = rng.integers(0, 4, (63, 100), np.uint8)
    levels = np.concatenate(
        [np.arange(0, 1025, 64) / 1024, np.nextafter(np.float32(0.25), np.array([0, 1], np.float32))]
    )
    plain = sweep(scores, [3, 1, 2], truth, levels, 4, implementation="reference")
    np.testing.assert_array_equal(sweep(scores, [3, 1, 2], truth, levels, 4), plain)


@BOTH
def test_a_prediction_is_not_looked_at_where_truth_is_void(implementation: str) -> None:
    truth, prediction = np.array([255, 1]), np.array([-7, 1])
    assert confusion(prediction, truth, 2, implementation=implementation).tolist() == [[0, 0], [0, 1]]


@BOTH
@pytest.mark.parametrize(
    ("prediction", "truth", "name"),
    [
        ([3], [0], "prediction"),
        ([-1], [0], "prediction"),
        ([255], [0], "prediction"),
        ([0], [3], "truth"),
        ([0], [-1], "truth"),
    ],
)
def test_values_out_of_range(implementation: str, prediction: list[int], truth: list[int], name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} holds a value outside 0\.\.2"):
        confusion(np.array(prediction), np.array(truth), 3, implementation=implementation)


@BOTH
@pytest.mark.parametrize("value", [np.nan, -0.01, 1.01, np.inf])
@pytest.mark.parametrize("k", [0, 1])
def test_scores_out_of_range(implementation: str, value: float, k: int) -> None:
    scores = np.full((2, 3, 3), 0.5, np.float32)
    scores[k, 1, 1] = value
    with pytest.raises(ValueError, match=r"scores must lie in \[0, 1\]"):
        sweep(scores, [1, 2], np.zeros((3, 3), int), [0.5], 3, implementation=implementation)
    with pytest.raises(ValueError, match=r"truth holds a value outside 0\.\.2"):
        sweep(np.zeros((1, 3, 3), np.float32), [1], np.full((3, 3), 9), [0.5], 3, implementation=implementation)


def test_bad_arguments_are_named() -> None:
    scores, truth = np.zeros((2, 3, 3), np.float32), np.zeros((3, 3), np.uint8)
    with pytest.raises(ValueError, match="integers, not float64"):
        confusion(np.zeros(3), np.zeros(3, int), 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"prediction is \(3,\) but truth is \(4,\)"):
        confusion(np.zeros(3, int), np.zeros(4, int), 2)
    with pytest.raises(ValueError, match="num_classes"):
        confusion(truth, truth, 256)
    with pytest.raises(ValueError, match="float32"):
        sweep(scores.astype(np.float64), [1, 2], truth, [0.5], 3)
    with pytest.raises(ValueError, match="as many different classes"):
        sweep(scores, [1, 1], truth, [0.5], 3)
    with pytest.raises(ValueError, match=r"classes must lie in 1\.\.2"):
        sweep(scores, [0, 1], truth, [0.5], 3)
    with pytest.raises(ValueError, match="truth is"):
        sweep(scores, [1, 2], truth[:2], [0.5], 3)
    with pytest.raises(ValueError, match="finite"):
        sweep(scores, [1, 2], truth, [np.nan], 3)
    with pytest.raises(Unavailable, match="triton"):
        confusion(truth, truth, 2, implementation="triton")


def test_mean_iou_leaves_out_classes_that_do_not_occur() -> None:
    mean, iou = mean_iou(np.array([[3, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [0, 2, 0, 0]]))
    np.testing.assert_allclose(iou, [3 / 4, 2 / 5, np.nan, 0])
    assert mean == pytest.approx((3 / 4 + 2 / 5 + 0) / 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean, iou = mean_iou(np.zeros((2, 2), np.int64))
    assert np.isnan(mean)
    assert np.isnan(iou).all()
    with pytest.raises(ValueError, match="square"):
        mean_iou(np.zeros((2, 3), np.int64))
