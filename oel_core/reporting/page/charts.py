"""Line charts as inline SVG. Colours are CSS classes of the page, so that they follow its light or dark theme."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 10, 34
COLOURS = 6
"""Series have the classes s0 to s5, again and again."""


@dataclass(frozen=True)
class Point:
    """One measurement; `low` and `high` are its interval, if it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Chart:
    """Lines over one pair of axes."""

    title: str
    x_label: str
    series: Sequence[Series]
    percent: bool = False
    """The y axis shows shares, from 0 to 100%."""
    changes: Sequence[float] = ()
    """Places on the x axis before which something changed: dashed vertical lines."""


@dataclass(frozen=True)
class _Scale:
    """Maps values to positions in the drawing."""

    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)


def draw(chart: Chart) -> Markup:
    """The chart with its legend; empty if no series has a finite point."""
    series = [Series(line.name, [point for point in line.points if math.isfinite(point.y)]) for line in chart.series]
    series = [line for line in series if line.points]
    if not series:
        return Markup()
    scale = _scale(chart, series)
    parts = [_axes(chart, scale), *(_line(line, number, scale) for number, line in enumerate(series))]
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT, chart.title)
    legend = Markup("").join(
        Markup('<span class="key"><i class="s{}"></i>{}</span>').format(number % COLOURS, line.name)
        for number, line in enumerate(series)
    )
    return head + Markup("").join(parts) + Markup("</svg>") + Markup('<p class="legend">{}</p>').format(legend)


def _scale(chart: Chart, series: Sequence[Series]) -> _Scale:
    points = [point for line in series for point in line.points]
    xs = [point.x for point in points]
    ys = [value for point in points for value in (point.y, point.low, point.high) if value is not None]
    low, high = (0.0, 1.0) if chart.percent else (min(0.0, *ys), max(ys))
    if high == low:
        high = low + 1
    return _Scale(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, low, high)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, at most `most` + 1 of them."""
    step = 10 ** math.floor(math.log10((high - low) / most))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 10) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def _axes(chart: Chart, scale: _Scale) -> Markup:
    label: Callable[[float], str] = (lambda value: f"{100 * value:.0f}%") if chart.percent else (lambda v: f"{v:g}")
    rows = [
        Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, WIDTH - RIGHT, place, place)
        + Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(LEFT - 5, place + 4, label(value))
        for value in ticks(scale.y0, scale.y1)
        for place in [scale.y(value)]
    ]
    columns = [
        Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{:g}</text>').format(scale.x(value), HEIGHT - 18, value)
        for value in ticks(scale.x0, scale.x1, 8)
        if value == int(value)
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    title = Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(middle, HEIGHT - 4, chart.x_label)
    changes = [
        Markup('<line class="change" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(x, x, TOP, HEIGHT - BOTTOM)
        for x in (scale.x(place) for place in chart.changes if scale.x0 < place <= scale.x1)
    ]
    return Markup("").join([*rows, *columns, title, *changes])


def _line(series: Series, number: int, scale: _Scale) -> Markup:
    places = [(scale.x(point.x), scale.y(point.y), point) for point in series.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
    marks = [
        Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>').format(
            x, y, 3 if len(places) <= 40 else 1, f"{series.name}: {point.x:g} → {point.y:.4g}"
        )
        for x, y, point in places
    ]
    bars = [
        Markup('<line x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
            x, x, scale.y(point.low), scale.y(point.high)
        )
        for x, _, point in places
        if point.low is not None and point.high is not None
    ]
    line = Markup('<polyline points="{}"/>').format(escape(path))
    return Markup('<g class="s{}">{}</g>').format(number % COLOURS, Markup("").join([line, *bars, *marks]))
