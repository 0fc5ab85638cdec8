"""People's verdicts on a deployment's answers over time and by version, from the project's inbox."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from oel_core.cases.known import verdict
from oel_core.evaluation.stats import wilson
from oel_core.projects.inbox import recorded
from oel_core.reporting.page.charts import Chart, Point, Series

MINUTE, HOUR, DAY = 60, 3600, 86400
WIDTHS = {
    **{n * MINUTE: f"{n} minutes" if n > 1 else "minute" for n in (1, 5, 15)},
    **{n * HOUR: f"{n} hours" if n > 1 else "hour" for n in (1, 6)},
    **{n * DAY: f"{n} days" if n > 1 else "day" for n in (1, 7, 30)},
}
"""Length of the time bins, seconds → name."""
MAX_SPANS = 40
UNITS = {MINUTE: "minutes", HOUR: "hours", DAY: "days"}


@dataclass(frozen=True)
class Span:
    """Counts of one version's sessions within a minute, or the sum of several minutes."""

    version: str
    begin: float
    """Start of the first minute, seconds since 1970, UTC."""
    sessions: int
    rated: int
    """Number of these sessions with a verdict."""
    good: int
    """Number of rated sessions with the verdict right."""

    @property
    def rate(self) -> float:
        """Share of rated sessions with the verdict right."""
        return self.good / self.rated

    @property
    def ci95(self) -> tuple[float, float]:
        """Wilson interval of `rate`."""
        return wilson(self.good, self.rated)


def spans(inbox: Path) -> list[Span]:
    """Every minute with its versions, in order of time. Invalid lines and episodes without a time are left out.

    People's word about a whole session, and about each of its answers, is one verdict: right where all of it is.
    """
    counts: dict[tuple[float, str], Counter[str]] = {}
    for episode in recorded(inbox):
        if episode.at is None:
            continue
        count = counts.setdefault((episode.at // MINUTE * MINUTE, episode.policy), Counter())
        count["sessions"] += 1
        thought = verdict([one for turn in episode.turns for one in turn.given if not one.superseded])
        if thought is not None:
            count.update(rated=1, good=int(thought))
    return [
        Span(version, begin, count["sessions"], count["rated"], count["good"])
        for (begin, version), count in sorted(counts.items())
    ]


def by_version(found: list[Span]) -> list[Span]:
    """The totals of each version, in order of their first session."""
    versions = dict.fromkeys(one.version for one in found)
    return [_sum([one for one in found if one.version == version]) for version in versions]


def _sum(found: list[Span]) -> Span:
    first = found[0]
    sessions, rated, good = (sum(getattr(one, name) for one in found) for name in ("sessions", "rated", "good"))
    return Span(first.version, first.begin, sessions, rated, good)


def deployment_chart(found: list[Span]) -> Chart | None:
    """Share of good sessions over time, one line per version; None without rated sessions."""
    rated = [one for one in found if one.rated]
    if not rated:
        return None
    start, end = rated[0].begin, rated[-1].begin + MINUTE
    width = next((width for width in WIDTHS if (end - start) / width <= MAX_SPANS), max(WIDTHS))
    unit = max(unit for unit in UNITS if unit <= width)
    series = []
    for version in dict.fromkeys(one.version for one in rated):
        parts: dict[int, list[Span]] = {}
        for one in rated:
            if one.version == version:
                parts.setdefault(int((one.begin - start) // width), []).append(one)
        sums = [(number, _sum(part)) for number, part in parts.items()]
        points = [Point((number + 0.5) * width / unit, one.rate, *one.ci95) for number, one in sums]
        series.append(Series(version, points))
    title = f"Sessions that people called right, by {WIDTHS[width]}, 95% Wilson intervals"
    return Chart(title, f"{UNITS[unit]} since the first session", series, percent=True)
