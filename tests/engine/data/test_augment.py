from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from camshaft.engine.data.augment import Augmentation, ColourJitter, Drawn, Resize, draw

SIZE = (375, 500)


def drawn_many(augmentation: Augmentation, count: int = 400, size: tuple[int, int] = SIZE) -> list[Drawn]:
    return [draw(augmentation, np.random.default_rng(seed), size) for seed in range(count)]


def test_the_default_changes_nothing() -> None:
    drawn = draw(Augmentation(), np.random.default_rng(0), SIZE)
    assert drawn.resized == SIZE
    assert drawn.window == (0, 0, *SIZE)
    assert drawn.adjustments == ()
    assert not drawn.flip


def test_long_side_covers_its_range_and_keeps_the_aspect_ratio() -> None:
    sizes = [drawn.resized for drawn in drawn_many(Augmentation(resize=Resize(long_side=(256, 260))))]
    assert {width for _, width in sizes} == {256, 257, 258, 259, 260}
    assert all(height == round(width * 375 / 500) for height, width in sizes)
    upright = drawn_many(Augmentation(resize=Resize(long_side=(256, 256))), 1, (500, 375))[0]
    assert upright.resized == (256, 192)


def test_short_side_square_and_scale() -> None:
    assert drawn_many(Augmentation(resize=Resize(short_side=(300, 300))), 1)[0].resized == (300, 400)
    assert drawn_many(Augmentation(resize=Resize(square=384)), 1)[0].resized == (384, 384)
    stepped = {d.resized[1] for d in drawn_many(Augmentation(resize=Resize(scale=(0.5, 1.5), step=0.25)))}
    assert stepped == {250, 375, 500, 625, 750}
    free = [d.resized[1] for d in drawn_many(Augmentation(resize=Resize(scale=(0.5, 1.5))))]
    assert 250 <= min(free) < 260
    assert 740 < max(free) <= 750


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"square": 10, "long_side": [1, 2]},
        {"long_side": [300, 200]},
        {"scale": [0, 1]},
        {"square": 10, "step": 0.25},
        {"square": 8193},
        {"square": 10, "interpolation": "cubic"},
        {"sqare": 10},
    ],
)
def test_unclear_resizes_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Resize.model_validate(bad)


def test_fixed_size() -> None:
    assert Augmentation().fixed_size is None
    assert Augmentation(resize=Resize(long_side=(1, 2))).fixed_size is None
    assert Augmentation(resize=Resize(square=9)).fixed_size == (9, 9)
    assert Augmentation(resize=Resize(square=9), crop=5).fixed_size == (5, 5)


def test_flip_probability() -> None:
    flips = sum(d.flip for d in drawn_many(Augmentation(flip=0.25), 2000))
    assert 430 < flips < 570  # 500 ± 3.6 standard deviations
    assert all(d.flip for d in drawn_many(Augmentation(flip=1)))


def test_jitter_factors_and_order() -> None:
    jitter = ColourJitter(brightness=0.3, contrast=0.4, saturation=1.5, hue=0.1)
    many = drawn_many(Augmentation(jitter=jitter), 2400)
    orders = Counter(tuple(kind for kind, _ in d.adjustments) for d in many)
    assert len(orders) == 24
    assert all(60 < count < 145 for count in orders.values())  # 100 ± 4.5 standard deviations
    for kind, low, high in (
        ("brightness", 0.7, 1.3),
        ("contrast", 0.6, 1.4),
        ("saturation", 0.0, 2.5),
        ("hue", -0.1, 0.1),
    ):
        amounts = np.array([dict(d.adjustments)[kind] for d in many])
        assert low <= amounts.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < amounts.max() <= high
    only = drawn_many(Augmentation(jitter=ColourJitter(hue=0.2)), 5)
    assert all([kind for kind, _ in d.adjustments] == ["hue"] for d in only)


def test_crop_goes_everywhere_inside_and_a_small_image_everywhere_in_the_crop() -> None:
    inside = {d.window[1] for d in drawn_many(Augmentation(crop=498))}
    assert inside == {0, 1, 2}
    outside = {d.window[0] for d in drawn_many(Augmentation(crop=377))}
    assert outside == {-2, -1, 0}


@settings(deadline=None)
@given(st.integers(1, 600), st.integers(1, 600), st.integers(1, 600), st.integers(0, 2**32))
def test_a_crop_always_holds_as_much_image_as_it_can(height: int, width: int, crop: int, seed: int) -> None:
    top, left, *_ = draw(Augmentation(crop=crop), np.random.default_rng(seed), (height, width)).window
    for start, length in ((top, height), (left, width)):
        assert min(length, start + crop) - max(0, start) == min(length, crop)


def test_equal_seeds_draw_equally() -> None:
    augmentation = Augmentation(
        resize=Resize(long_side=(256, 448)), flip=0.5, jitter=ColourJitter(brightness=0.3, hue=0.1), crop=384
    )
    assert draw(augmentation, np.random.default_rng(3), SIZE) == draw(augmentation, np.random.default_rng(3), SIZE)
    assert draw(augmentation, np.random.default_rng(3), SIZE) != draw(augmentation, np.random.default_rng(4), SIZE)
