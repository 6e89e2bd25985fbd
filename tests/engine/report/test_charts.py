import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camshaft.engine.report.charts import MOST_POINTS, Mark, Series, line_chart, nice_ticks

finite = st.floats(-1e9, 1e9).map(lambda value: round(value, 6))


def chart(*series, from_zero=False, **values):
    return line_chart("y", "x", series, width=280, height=160, from_zero=from_zero, **values)


def places(points):
    return [tuple(float(part) for part in point.split(",")) for point in points.split()]


@pytest.mark.parametrize(
    ("low", "high", "about", "around", "ticks"),
    [
        (0, 1, 4, False, [0, 0.25, 0.5, 0.75, 1]),
        (1, 45, 4, False, [20, 40]),
        (1, 45, 4, True, [0, 20, 40, 60]),
        (0.05, 0.6, 6, False, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        (3, 3, 4, False, [3]),
        (-1, 1, 2, False, [-1, 0, 1]),
    ],
)
def test_ticks(low, high, about, around, ticks):
    assert nice_ticks(low, high, about, around=around) == ticks


@given(finite, finite, st.integers(1, 10))
def test_ticks_lie_on_even_steps(a, b, about):
    low, high = sorted((a, b))
    ticks = nice_ticks(low, high, about, around=True)
    assert ticks[0] <= low + 1e-6 * abs(low)
    assert ticks[-1] >= high - 1e-6 * abs(high)
    assert len(ticks) <= about + 3
    steps = [second - first for first, second in itertools.pairwise(ticks)]
    assert all(math.isclose(step, steps[0], rel_tol=1e-6, abs_tol=1e-9 * (abs(low) + abs(high))) for step in steps)


def test_a_line_by_hand():
    drawn = chart(Series("a", [0, 5, 10], [0, 1, 2]))
    assert (drawn.left, drawn.right, drawn.top, drawn.bottom) == (46, 270, 10, 136)
    assert places(drawn.lines[0].points) == [(46, 136), (158, 73), (270, 10)]
    assert drawn.lines[0].band == ""
    assert drawn.last == "2"
    assert drawn.words == "a: 0 at x 0, 2 at x 10, lowest 0, highest 2"


@given(
    st.lists(finite, min_size=1, max_size=400),
    st.booleans(),
)
def test_everything_lies_inside_the_frame(ys, from_zero):
    drawn = chart(Series("a", range(len(ys)), ys), from_zero=from_zero)
    line = drawn.lines[0]
    assert 1 <= len(places(line.points)) <= MOST_POINTS
    for x, y in places(line.points) + places(line.band):
        assert drawn.left - 0.1 <= x <= drawn.right + 0.1
        assert drawn.top - 0.1 <= y <= drawn.bottom + 0.1


def test_many_points_become_means_in_a_band():
    drawn = chart(Series("a", range(2 * MOST_POINTS), [0, 4] * MOST_POINTS))
    heights = {y for _, y in places(drawn.lines[0].points)}
    assert heights == {73}
    assert {y for _, y in places(drawn.lines[0].band)} == {10, 136}


def test_from_zero_unless_below_it():
    assert chart(Series("a", [0, 1], [21, 22]), from_zero=True).y_ticks[0].label == "0"
    assert chart(Series("a", [0, 1], [21, 22])).y_ticks[0].label == "21"
    assert chart(Series("a", [0, 1], [-3, 2]), from_zero=True).y_ticks[0].label == "-4"


def test_a_single_point_lies_in_the_middle():
    assert places(chart(Series("a", [7], [0.5])).lines[0].points) == [(158, 73)]


def test_more_lines_than_colours_are_dashed():
    lines = chart(*(Series(str(index), [0, 1], [index, index]) for index in range(9))).lines
    assert (lines[8].hue, lines[8].dashed) == (0, True)
    assert not lines[7].dashed


def test_marks_and_guides_stand_at_their_values():
    marked = Series("a", [0, 10], [0, 2], (Mark(5, 1, True, "here"),))
    drawn = chart(marked, guides={"fixed": 5})
    assert (drawn.lines[0].marks[0].x, drawn.lines[0].marks[0].y) == (158, 73)
    assert (drawn.guides[0].at, drawn.guides[0].label) == (158, "fixed")
