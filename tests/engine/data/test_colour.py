import colorsys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from camshaft.engine.data.augment import Adjustment
from camshaft.engine.data.colour import adjust


def definition(image: NDArray[np.uint8], adjustments: Sequence[tuple[str, float]]) -> NDArray[np.float64]:
    """The module's formulas in float64, pixel by pixel."""
    x = image.astype(np.float64) / 255
    for kind, f in adjustments:
        grey = x @ (0.2989, 0.587, 0.114)
        if kind == "brightness":
            x = f * x
        elif kind == "contrast":
            x = f * x + (1 - f) * grey.mean()
        elif kind == "saturation":
            x = f * x + (1 - f) * grey[..., None]
        else:
            for pixel in x.reshape(-1, 3):
                h, s, v = colorsys.rgb_to_hsv(*pixel)
                pixel[:] = colorsys.hsv_to_rgb((h + f) % 1, s, v)
        x = np.clip(x, 0, 1)
    return x * 255


def noise(seed: int, size: tuple[int, int] = (7, 9)) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


factors: dict[Adjustment, st.SearchStrategy[float]] = {
    "brightness": st.floats(0, 2),
    "contrast": st.floats(0, 2),
    "saturation": st.floats(0, 3),
    "hue": st.floats(-0.5, 0.5),
}


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[Adjustment, float]]:
    kinds = draw(st.permutations(list(factors)))[: draw(st.integers(1, 4))]
    return [(kind, draw(factors[kind])) for kind in kinds]


@settings(deadline=None)
@given(st.integers(0, 1000), changes())
def test_equals_its_definition(seed: int, adjustments: list[tuple[Adjustment, float]]) -> None:
    image = noise(seed)
    # Half a level of rounding, and what float32 makes of a hue where channels are nearly equal.
    np.testing.assert_allclose(adjust(image, adjustments), definition(image, adjustments), atol=0.51)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (77, 77, 77), (255, 0, 0), (0, 255, 255), (9, 200, 9)])
@pytest.mark.parametrize("turn", [-0.5, -1 / 3, 0.0, 1 / 6, 0.5])
def test_hue_of_greys_and_pure_colours(colour: tuple[int, int, int], turn: float) -> None:
    image = np.full((2, 3, 3), colour, np.uint8)
    np.testing.assert_allclose(adjust(image, [("hue", turn)]), definition(image, [("hue", turn)]), atol=0.51)


def test_by_hand() -> None:
    image = np.array([[[100, 0, 0], [200, 100, 50]]], np.uint8)
    np.testing.assert_array_equal(adjust(image, [("brightness", 1.5)]), [[[150, 0, 0], [255, 150, 75]]])
    np.testing.assert_array_equal(adjust(image, [("hue", 1 / 3)]), [[[0, 100, 0], [50, 200, 100]]])
    # grey: 29.89 and 124.18, mean 77.035
    np.testing.assert_array_equal(adjust(image, [("contrast", 0.0)]), np.full((1, 2, 3), 77))
    np.testing.assert_array_equal(adjust(image, [("saturation", 0.0)]), [[[30, 30, 30], [124, 124, 124]]])


def test_leaves_its_input_and_does_nothing_for_nothing() -> None:
    image = noise(0, (20, 30))
    before = image.copy()
    out = adjust(image, [("brightness", 0.5), ("hue", 0.2)])
    np.testing.assert_array_equal(image, before)
    assert out is not image
    assert adjust(image, []) is image
    same = adjust(image, [("brightness", 1.0), ("contrast", 1.0), ("saturation", 1.0), ("hue", 0.0)])
    np.testing.assert_array_equal(same, image)


def test_views_and_read_only_images() -> None:
    image = noise(1, (20, 30))
    view = image[::-1, ::2]
    np.testing.assert_array_equal(adjust(view, [("hue", 0.1)]), adjust(view.copy(), [("hue", 0.1)]))
    image.setflags(write=False)
    np.testing.assert_array_equal(adjust(image, [("hue", 0.1)]), adjust(image.copy(), [("hue", 0.1)]))
