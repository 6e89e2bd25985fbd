"""Line charts as the page draws them: ticks, points and marks in the units of a small SVG view box."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from camshaft.engine.report.wording import number

HUES = 8
"""Colours of lines in the style sheet; further lines repeat them dashed."""

MOST_POINTS = 120
"""Points of a line at most: more are brought together, as means within a band from least to greatest."""

LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 10.0, 24.0
"""Room around the plotted area."""


@dataclass(frozen=True)
class Mark:
    """A point of a line that is drawn as a dot, filled or hollow."""

    x: float
    y: float
    hollow: bool
    words: str


@dataclass(frozen=True)
class Series:
    """One line: y over ascending x."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Tick:
    """A place on an axis and what stands there."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """A series, ready to draw."""

    name: str
    hue: int
    dashed: bool
    points: str
    band: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Chart:
    """A chart, ready to draw."""

    title: str
    x_label: str
    words: str
    """What it shows, for those who can't see it."""
    last: str
    """The value at the end of a single line; else nothing."""
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    guides: tuple[Tick, ...]
    """Places on the x axis that a vertical line marks."""
    lines: tuple[Line, ...]


def line_chart(
    title: str,
    x_label: str,
    series: Sequence[Series],
    *,
    width: float,
    height: float,
    from_zero: bool,
    guides: Mapping[str, float] | None = None,
) -> Chart:
    """Lay out a chart.

    Args:
        title: what y is.
        x_label: what x is.
        series: one or more lines, each with at least one point; all values are finite.
        width: of the view box, about CSS pixels.
        height: as well.
        from_zero: the y axis begins at zero, unless a value lies below it.
        guides: values of x to mark, with what they are.
    """
    gathered = [_gathered(one) for one in series]
    xs = [x for one in gathered for x in one.x]
    ys = [y for one in gathered for y in (*one.low, *one.high)]
    x_scale = _Scale(min(xs), max(xs), LEFT, width - RIGHT)
    y_ticks = nice_ticks(*_y_range(min(ys), max(ys), from_zero), 4, around=True)
    y_scale = _Scale(y_ticks[0], y_ticks[-1], height - BOTTOM, TOP)
    lines = tuple(
        Line(
            name=one.series.name,
            hue=index % HUES,
            dashed=index >= HUES,
            points=_points(one.x, one.mean, x_scale, y_scale),
            band=_points([*one.x, *reversed(one.x)], [*one.high, *reversed(one.low)], x_scale, y_scale)
            if one.low != one.high
            else "",
            marks=tuple(Mark(x_scale(mark.x), y_scale(mark.y), mark.hollow, mark.words) for mark in one.series.marks),
        )
        for index, one in enumerate(gathered)
    )
    return Chart(
        title=title,
        x_label=x_label,
        words="; ".join(_in_words(one, x_label) for one in series),
        last=number(series[0].y[-1]) if len(series) == 1 else "",
        width=width,
        height=height,
        left=LEFT,
        right=width - RIGHT,
        top=TOP,
        bottom=height - BOTTOM,
        x_ticks=tuple(Tick(x_scale(x), number(x)) for x in nice_ticks(min(xs), max(xs), int(width / 65))),
        y_ticks=tuple(Tick(y_scale(y), number(y, 4)) for y in y_ticks),
        guides=tuple(Tick(x_scale(x), label) for label, x in (guides or {}).items()),
        lines=lines,
    )


def nice_ticks(low: float, high: float, about: int, *, around: bool = False) -> list[float]:
    """Round numbers about `(high - low) / about` apart: steps of 1, 2, 2.5 or 5 × 10^k.

    Args:
        low: least value.
        high: greatest value; `low` is the only tick where it is no greater.
        about: number of steps, roughly.
        around: begin at or below `low` and end at or above `high`, instead of staying between them.
    """
    if not high > low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = low / step, high / step
    first, last = (math.floor(first), math.ceil(last)) if around else (math.ceil(first - 1e-9), math.floor(last + 1e-9))
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)] or [low]


@dataclass(frozen=True)
class _Gathered:
    series: Series
    x: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def _gathered(series: Series) -> _Gathered:
    """At most `MOST_POINTS` points: means of equally many neighbours, with their extremes."""
    per_point = math.ceil(len(series.x) / MOST_POINTS)
    x, mean, low, high = [], [], [], []
    for start in range(0, len(series.x), per_point):
        ys = series.y[start : start + per_point]
        xs = series.x[start : start + per_point]
        x.append(sum(xs) / len(xs))
        mean.append(sum(ys) / len(ys))
        low.append(min(ys))
        high.append(max(ys))
    return _Gathered(series, x, mean, low, high)


@dataclass(frozen=True)
class _Scale:
    """Values to places; the only value of an empty range lies in the middle."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def _y_range(low: float, high: float, from_zero: bool) -> tuple[float, float]:
    """The values of the axis, never of no height."""
    if from_zero and low >= 0:
        return 0.0, high or 1.0
    if high == low:
        margin = abs(high) / 2 or 1.0
        return low - margin, high + margin
    return low, high


def _points(xs: Sequence[float], ys: Sequence[float], x_scale: _Scale, y_scale: _Scale) -> str:
    return " ".join(f"{x_scale(x):g},{y_scale(y):g}" for x, y in zip(xs, ys, strict=True))


def _in_words(series: Series, x_label: str) -> str:
    lowest, highest = min(series.y), max(series.y)
    return (
        f"{series.name}: {number(series.y[0])} at {x_label} {number(series.x[0])}, "
        f"{number(series.y[-1])} at {x_label} {number(series.x[-1])}, "
        f"lowest {number(lowest)}, highest {number(highest)}"
    )
