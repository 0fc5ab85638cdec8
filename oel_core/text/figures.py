"""Measured figures as text: rates and their differences in percent, a dash where nothing was measured."""

DASH = "-"
Bounds = tuple[float, float]


def percent(rate: float | None) -> str:
    """A rate between 0 and 1 as `25.0%`."""
    return DASH if rate is None else f"{100 * rate:.1f}%"


def points(difference: float) -> str:
    """A difference of two rates in percentage points, with its sign: `+12.5`."""
    return f"{100 * difference:+.1f}"


def interval(bounds: Bounds | None) -> str:
    """An interval of a rate in percent: `10.0 to 50.0`."""
    return DASH if bounds is None else " to ".join(f"{100 * bound:.1f}" for bound in bounds)


def points_interval(low: float, high: float) -> str:
    """An interval of a difference of two rates, in percentage points: `-1.0 to +12.5`."""
    return f"{points(low)} to {points(high)}"


def rate_with_interval(rate: float, low: float, high: float) -> str:
    """`25.0% (10.0 to 50.0)`."""
    return f"{percent(rate)} ({interval((low, high))})"


def mean(value: float | None) -> str:
    """A mean count with one digit."""
    return DASH if value is None else f"{value:.1f}"
