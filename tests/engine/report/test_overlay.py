import numpy as np
import pytest

from camshaft.engine.report.colours import css, on_photographs
from camshaft.engine.report.overlay import heat_overlay, mask_overlay
from camshaft.engine.stores import voc_palette

RED, BLUE = (200, 20, 20), (20, 20, 200)


@pytest.fixture
def colours():
    table = np.zeros((256, 3), np.uint8)
    table[1], table[2] = RED, BLUE
    return table


@pytest.fixture
def photo():
    return np.full((9, 13, 3), 120, np.uint8)


def test_labels_are_tinted_and_the_background_is_not(photo, colours):
    labels = np.zeros((9, 13), np.uint8)
    labels[:, 7:] = 1
    shown = mask_overlay(photo, labels, colours)
    assert shown.dtype == np.uint8
    assert shown[4, 2].tolist() == [120, 120, 120]
    expected = [0.42 * 120 + 0.58 * channel for channel in RED]
    assert np.abs(shown[4, 11] - np.array(expected)).max() <= 0.5
    assert (shown[:, 6:8] > 150).all(), "the border is light"


def test_maps_glow_in_the_colour_of_the_strongest_class(photo, colours):
    maps = np.zeros((2, 9, 13), np.float32)
    maps[0, :, :4], maps[1, :, 9:], maps[0, :, 9:] = 0.9, 0.9, 0.4
    shown = heat_overlay(photo, maps, np.array([0, 1]), colours, None).astype(int)
    assert shown[4, 1, 0] > shown[4, 1, 2] + 80
    assert shown[4, 11, 2] > shown[4, 11, 0] + 80
    assert shown[4, 6].tolist() == [96, 96, 96]


def test_the_stronger_the_map_the_more_colour(photo, colours):
    ramp = np.broadcast_to(np.linspace(0, 1, 13, dtype=np.float32), (1, 9, 13))
    shown = heat_overlay(photo, ramp, np.array([0]), colours, None).astype(int)
    colourful = shown[4, :, 0] - shown[4, :, 1]
    assert (np.diff(colourful[:10]) > 0).all()


def test_no_class_no_glow(photo, colours):
    shown = heat_overlay(photo, np.zeros((0, 9, 13), np.float32), np.array([], np.int64), colours, None)
    assert np.unique(shown).tolist() == [96]


def test_a_single_pixel(colours):
    pixel = np.full((1, 1, 3), 7, np.uint8)
    assert mask_overlay(pixel, np.ones((1, 1), np.uint8), colours).shape == (1, 1, 3)


def test_dark_colours_of_a_palette_become_visible_and_stay_apart():
    palette = voc_palette()
    shown = [on_photographs(palette[value]) for value in range(1, 21)]
    assert len(set(shown)) == 20
    assert min(max(colour) for colour in shown) > 100


def test_grey_stays_grey():
    assert len(set(on_photographs(np.array([128, 128, 128], np.uint8)))) == 1


def test_colours_as_css():
    assert css(np.array([1, 16, 255], np.uint8)) == "#0110ff"
