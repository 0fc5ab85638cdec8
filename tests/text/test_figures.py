"""Formatting of rates, differences and intervals."""

from oel_core.text.figures import interval, mean, percent, points, points_interval, rate_with_interval


def test_rates_are_percentages_and_differences_are_signed_points() -> None:
    assert percent(0.25) == "25.0%"
    assert points(0.125) == "+12.5"
    assert points(-0.01) == "-1.0"
    assert interval((0.1, 0.5)) == "10.0 to 50.0"
    assert points_interval(-0.01, 0.125) == "-1.0 to +12.5"
    assert rate_with_interval(0.25, 0.1, 0.5) == "25.0% (10.0 to 50.0)"
    assert mean(12.34) == "12.3"


def test_what_was_not_measured_is_a_dash() -> None:
    assert (percent(None), interval(None), mean(None)) == ("-", "-", "-")
