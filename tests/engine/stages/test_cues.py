"""Object and background cues: every rule of what a pixel becomes, worked by hand."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from camshaft.engine.stages.cues import BackgroundCues, cue_labels

CLASSES = np.array([2, 7, 11])
ALPHA = 0.2
IGNORED = 255


def label(first: float, second: float, third: float, saliency: int, **settings: Any) -> int:
    """The label of one pixel, from the maps of three classes (labels 3, 8 and 12) and its saliency of 255."""
    maps = np.array([first, second, third], np.float32)[:, None, None]
    labels = cue_labels(maps, CLASSES, np.array([[saliency]], np.uint8), ALPHA, BackgroundCues(**settings))
    assert labels.shape == (1, 1)
    assert labels.dtype == np.uint8
    return int(labels[0, 0])


@pytest.mark.parametrize(
    ("maps", "saliency", "expected"),
    [
        ((0.1, 0.1, 0.0), 10, 0),  # no object cue, saliency 10/255 = 0.039 < 0.06: background
        ((0.1, 0.1, 0.0), 15, 0),  # 15/255 = 0.0588 < 0.06
        ((0.1, 0.1, 0.0), 16, IGNORED),  # 16/255 = 0.0627: neither cue
        ((0.1, 0.1, 0.0), 255, IGNORED),  # salient, but no class is there
        ((0.3, 0.1, 0.0), 255, 3),  # one object cue
        ((0.3, 0.4, 0.0), 255, 8),  # of two object cues the stronger
        ((0.4, 0.4, 0.0), 255, 3),  # of two alike the first class
        ((0.2, 0.1, 0.0), 255, IGNORED),  # an object cue is above α, not at it
        ((0.3, 0.1, 0.0), 10, 0),  # both cues: the background's goes first
        ((1.0, 0.0, 0.0), 0, 0),  # the same where the map is as sure as it can be
    ],
)
def test_the_paper_s_rule(maps: tuple[float, float, float], saliency: int, expected: int) -> None:
    assert label(*maps, saliency) == expected


@pytest.mark.parametrize(("conflict", "expected"), [("background", 0), ("object", 3), ("ignore", IGNORED)])
def test_what_both_cues_at_once_become(conflict: str, expected: int) -> None:
    assert label(0.5, 0.0, 0.0, 0, conflict=conflict) == expected
    assert label(0.5, 0.0, 0.0, 255, conflict=conflict) == 3
    assert label(0.1, 0.0, 0.0, 0, conflict=conflict) == 0


@pytest.mark.parametrize(
    ("maps", "saliency", "expected"),
    [
        ((0.95, 0.95, 0.95), 255, IGNORED),  # three classes are sure
        ((0.95, 0.92, 0.5), 255, 3),  # two are: the stronger
        ((0.95, 0.95, 0.5), 0, IGNORED),  # two and the background
        ((0.95, 0.5, 0.5), 0, 0),  # one and the background
        ((0.90, 0.95, 0.95), 255, 8),  # sure is above the value, not at it
        ((0.1, 0.1, 0.1), 255, IGNORED),  # salient without an object
    ],
)
def test_the_code_s_rule(maps: tuple[float, float, float], saliency: int, expected: int) -> None:
    assert label(*maps, saliency, beta=0.198, sure=0.9) == expected


def test_pixels_below_alpha_are_never_sure() -> None:
    assert label(0.5, 0.15, 0.15, 255, sure=0.1) == 3


def test_the_code_s_beta_lies_between_50_and_51() -> None:
    assert [label(0.0, 0.0, 0.0, value, beta=0.198) for value in (50, 51)] == [0, IGNORED]


def test_an_image_without_tags_is_background_or_ignored() -> None:
    maps, saliency = np.zeros((0, 1, 2), np.float32), np.array([[0, 200]], np.uint8)
    for cues in (BackgroundCues(), BackgroundCues(conflict="ignore", sure=0.9)):
        assert cue_labels(maps, np.zeros(0, np.int64), saliency, ALPHA, cues).tolist() == [[0, IGNORED]]


@pytest.mark.parametrize("settings", [{"beta": 0.0}, {"beta": 1.1}, {"conflict": "both"}, {"sure": 1.0}])
def test_values_without_meaning_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BackgroundCues(**settings)
