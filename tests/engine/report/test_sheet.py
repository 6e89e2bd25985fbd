"""A figure's grid, looked at pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from camshaft.engine.report.sheet import (
    CELL_WIDTH,
    FONT_SIZE,
    GAP,
    HEADING,
    MARGIN,
    NAME,
    PAPER,
    Row,
    cell_size,
    fitting,
    sheet,
)

COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 0)]


def cell(colour, height):
    return np.full((height, CELL_WIDTH, 3), colour, np.uint8)


def test_every_cell_stands_in_its_column_and_row():
    first = Row("first", (cell(COLOURS[0], 50), cell(COLOURS[1], 50)))
    second = Row("second", (cell(COLOURS[2], 80), cell(COLOURS[3], 80)))
    picture = np.asarray(sheet(["a", "b"], [first, second]))
    assert picture.shape == (2 * MARGIN + HEADING + 50 + 80 + 2 * NAME, 2 * MARGIN + 2 * CELL_WIDTH + GAP, 3)
    top, below = MARGIN + HEADING, MARGIN + HEADING + 50 + NAME
    right = MARGIN + CELL_WIDTH + GAP
    for y, height, x, colour in [
        (top, 50, MARGIN, COLOURS[0]),
        (top, 50, right, COLOURS[1]),
        (below, 80, MARGIN, COLOURS[2]),
        (below, 80, right, COLOURS[3]),
    ]:
        assert (picture[y : y + height, x : x + CELL_WIDTH] == colour).all()
    assert (picture[:, MARGIN + CELL_WIDTH : right] == PAPER).all(), "the gap is empty"
    assert (picture[MARGIN : MARGIN + HEADING, MARGIN:right] != PAPER).any(), "a heading"
    assert (picture[below - NAME : below, MARGIN:right] != PAPER).any(), "a row's name"


def test_letters_that_the_font_lacks_are_question_marks():
    font = ImageFont.load_default(FONT_SIZE)
    assert fitting("crf δ=1 日本", font) == "crf ?=1 ??"
    missing = bytes(font.getmask("δ"))
    assert all(bytes(font.getmask(chr(code))) != missing for code in range(33, 127))


def test_letters_with_accents_lose_them():
    assert fitting("Kühe, élan, Łódź", ImageFont.load_default(FONT_SIZE)) == "Kuhe, elan, ?odz"


@given(st.text("aWi δ", max_size=90))
def test_headings_are_never_wider_than_their_cell(text):
    short = fitting(text, ImageFont.load_default(FONT_SIZE))
    assert ImageFont.load_default(FONT_SIZE).getlength(short) <= CELL_WIDTH
    if len(short) != len(text):
        assert short[0] == text[0].replace("δ", "?")
        assert "..." in short


@pytest.mark.parametrize(("size", "expected"), [((120, 240), 120), ((480, 240), 480), ((1, 999), 1), ((333, 500), 160)])
def test_cells_keep_the_picture_s_shape(size, expected):
    assert cell_size(*size) == (expected, CELL_WIDTH)
