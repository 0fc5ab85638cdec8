"""A suite's report in rows that a person reads, and as a page."""

from typing import Any

from oel_core.text.figures import percent, rate_with_interval
from oel_core.text.markdown import escaped, table
from oel_core.types import EvalReport

_RATES = ("truncation_rate", "invalid_rate")


def measurement_markdown(model: str, suite: str, path: str, report: EvalReport) -> str:
    """The results of a model (`model`, found at `path`) on a suite."""
    figures = table(["figure", "value"], rows(report))
    return f"# {escaped(model)} on {escaped(suite)}\n\n{escaped(path)}\n\n{figures}\n"


def rows(report: EvalReport) -> list[tuple[str, str]]:
    """(figure, value): rates in percent, with their 95% intervals where there are any."""
    values = report.model_dump(mode="json")
    low, high = values.pop("ci95")
    extra = values.pop("extra")
    found = [(name, _shown(name, value)) for name, value in values.items()]
    at = list(values).index("pass_rate")
    found[at] = ("pass_rate", rate_with_interval(values["pass_rate"], low, high))
    return [*found, *_extra(extra)]


def _extra(values: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for name, value in values.items():
        if isinstance(value, dict) and {"value", "low", "high"} <= value.keys():
            found.append((name, rate_with_interval(value["value"], value["low"], value["high"])))
        elif isinstance(value, dict):
            found += _extra(value)
        else:
            found.append((name, _shown(name, value)))
    return found


def _shown(name: str, value: Any) -> str:
    if isinstance(value, float):
        return percent(value) if name in _RATES else f"{value:.4g}"
    return str(value)
