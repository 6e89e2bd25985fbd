"""Maps at image size, the background's score and labels, worked by hand."""

import numpy as np
import pytest

from camshaft.engine.stages import seeds
from camshaft.engine.stores import Maps


def test_maps_are_upsampled_with_cells_centred_on_their_pixels() -> None:
    maps = Maps(np.array([[[0.0, 1.0]]], np.float32), np.array([4]), (1, 4))
    assert seeds.at_image_size(maps, align_corners=False).tolist() == [[[0.0, 0.25, 0.75, 1.0]]]


def test_aligned_maps_reach_from_corner_to_corner() -> None:
    maps = Maps(np.array([[[0.0, 1.0]]], np.float32), np.array([4]), (1, 5))
    assert seeds.at_image_size(maps, align_corners=True).tolist() == [[[0.0, 0.25, 0.5, 0.75, 1.0]]]


def test_no_classes_are_no_maps() -> None:
    maps = Maps(np.zeros((0, 2, 3), np.float32), np.zeros(0, np.int64), (5, 7))
    full = seeds.at_image_size(maps, align_corners=True)
    assert full.shape == (0, 5, 7)
    assert seeds.background_score(full, 3.0).tolist() == np.ones((5, 7)).tolist()


def test_the_background_score_is_eq_6() -> None:
    maps = np.array([[[0.2, 0.9]], [[0.5, 0.1]]], np.float32)
    assert seeds.background_score(maps, 2.0)[0] == pytest.approx([0.25, 0.01], abs=1e-6)


def test_the_strongest_score_labels_and_background_wins_ties() -> None:
    maps = np.array([[[0.3, 0.6, 0.1]], [[0.2, 0.6, 0.9]]], np.float32)
    scores = seeds.with_background(0.3, maps)
    assert scores.shape == (3, 1, 3)
    assert seeds.to_labels(scores, np.array([2, 7])).tolist() == [[0, 3, 8]]


def test_confident_labels_keep_what_both_exponents_agree_on() -> None:
    low = np.array([[5, 0, 0, 5]], np.uint8)
    high = np.array([[5, 0, 3, 0]], np.uint8)
    assert seeds.confident_labels(low, high).tolist() == [[5, 0, 255, 0]]


def test_rounding_never_leaves_the_unit_interval() -> None:
    maps = Maps(np.ones((3, 2, 63), np.float32), np.arange(3), (333, 500))
    for aligned in (True, False):
        full = seeds.at_image_size(maps, align_corners=aligned)
        assert full.max() <= 1
        assert (seeds.background_score(full, 3.0) >= 0).all()
