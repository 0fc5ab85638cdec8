"""Charts: round ticks, well-formed SVG, empty without data."""

import math
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from oel_core.reporting.page.charts import Chart, Point, Series, draw, ticks

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 3))


@given(NUMBERS, st.floats(1e-3, 1e6))
def test_ticks_lie_within_and_are_few(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-6 * span <= value <= low + span + 1e-6 * span for value in found)
    assert found == sorted(set(found))


@given(st.lists(st.tuples(NUMBERS, st.one_of(NUMBERS, st.just(math.nan))), max_size=8), st.text(max_size=20))
def test_every_chart_is_well_formed_and_stays_within_its_frame(points: list[tuple[float, float]], name: str) -> None:
    name = "".join(character for character in name if character.isprintable())
    drawn = draw(Chart(name, "step", [Series(name, [Point(x, y) for x, y in points])]))
    if not any(math.isfinite(y) for _, y in points):
        assert drawn == ""
        return
    tree = ElementTree.fromstring(f"<div>{drawn}</div>")
    for circle in tree.iter("circle"):
        assert 0 <= float(circle.get("cx", "")) <= 360
        assert 0 <= float(circle.get("cy", "")) <= 220


def test_intervals_and_names_are_drawn_and_escaped() -> None:
    drawn = draw(Chart("t", "round", [Series("<b>&", [Point(0, 0.5, 0.25, 0.75)])], percent=True))
    assert "&lt;b&gt;&amp;" in drawn
    assert "<b>" not in drawn
    tree = ElementTree.fromstring(f"<div>{drawn}</div>")
    assert len([line for group in tree.iter("g") for line in group.iter("line")]) == 1
