"""The tables of a report as rows of text."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from oel_core.health.alarms import Raised
from oel_core.knowledge.selection_records import Selection
from oel_core.reporting.findings.assessment import Assessment, Change
from oel_core.reporting.findings.champions import RoundOutcome
from oel_core.reporting.findings.deployment import Span
from oel_core.reporting.findings.failures import KINDS
from oel_core.reporting.findings.gather import RoundView
from oel_core.reporting.findings.model_results import HELD_OUT
from oel_core.reporting.page.answers import chance, name
from oel_core.text.figures import interval, mean, percent, points, points_interval

FOUND = {"better": "better", "worse": "worse", "equal": "no difference", "unknown": "too little data"}


@dataclass(frozen=True)
class Table:
    """Headings, and rows with as many cells."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def duration(seconds: float) -> str:
    """Seconds in readable units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(at: float) -> str:
    """A time since 1970 in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def measured(found: Sequence[RoundView]) -> Table:
    """The results of every round."""
    suites = sorted({suite for view in found for suite in view.summary.ood})
    start = ["start model"] if any(view.summary.start_pass_rate is not None for view in found) else []
    rates = ("round", "pass rate", "95% interval", *start, "in context", "raw")
    lengths = ("response tokens", "episode tokens", "cut", "knowledge tokens")
    head = [*rates, *lengths, *(f"ood {suite}" for suite in suites)]
    return Table(head, [_measured(view, suites, bool(start)) for view in found])


def _measured(view: RoundView, suites: Sequence[str], start: bool) -> list[str]:
    row, own = view.summary, view.reports.get(HELD_OUT)
    return [
        str(view.number),
        percent(row.pass_rate),
        interval(row.ci95),
        *([percent(row.start_pass_rate)] if start else []),
        percent(row.in_context_pass_rate),
        percent(row.raw_pass_rate),
        mean(row.response_tokens),
        mean(own.trajectory_tokens if own else None),
        percent(own.truncation_rate if own else None),
        mean(row.knowledge_tokens),
        *(percent(row.ood.get(suite)) for suite in suites),
    ]


def changes(found: Assessment) -> Table:
    """Every round compared with the base model and, if that is another one, with the model that it started from."""
    head = ("round", "against", "difference", "95% interval", "newly won", "newly lost", "chance", "found")
    rows = []
    for change in found.rounds:
        rows.append(_change(change.round, change.to_base))
        if change.to_before.against:
            rows.append(_change(change.round, change.to_before))
    return Table(head, rows)


def _change(index: int, change: Change) -> list[str]:
    compared = change.compared
    return [
        str(index),
        name(change.against),
        f"{points(compared.difference)} points",
        points_interval(compared.low, compared.high),
        str(compared.won),
        str(compared.lost),
        chance(change.chance),
        FOUND[change.finding],
    ]


def failed(found: Sequence[RoundView]) -> Table:
    """How the lost held-out episodes ended, one column per round."""
    views = [view for view in found if HELD_OUT in view.reports]
    kinds = [kind for kind in KINDS if any(kind in view.failures for view in views)]
    rows = [[kind, *(str(view.failures.get(kind, 0)) for view in views)] for kind in kinds]
    lost = ["all lost", *(str(sum(view.failures.values())) for view in views)]
    return Table(["held-out episodes lost by", *(f"round {view.number}" for view in views)], [*rows, lost])


def efforts(found: Sequence[RoundView]) -> Table:
    """Time and tokens of every round."""
    head = ("round", "time", "tokens collected", "tokens trained on", "tokens measured", "time by stage")
    return Table(head, [_effort(view) for view in found])


def _effort(view: RoundView) -> list[str]:
    spent = view.effort
    stages = sorted(spent.seconds.items(), key=lambda entry: -entry[1])
    return [
        str(view.number),
        duration(spent.total),
        *(f"{tokens:,}" for tokens in (spent.collected, spent.trained, spent.measured)),
        ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in stages),
    ]


def champions(found: Sequence[RoundOutcome]) -> Table:
    """The champion after each recurring round."""
    head = ("round", "started from", "outcome", "champion after it", "decided", "why")
    return Table(
        head,
        [
            [str(one.round), name(one.parent), one.outcome, name(one.champion), moment(one.at), one.detail]
            for one in found
        ],
    )


def versions_deployed(found: Sequence[Span]) -> Table:
    """What people thought of each version's answers."""
    head = ("version", "first session", "sessions", "rated", "called right", "95% interval")
    return Table(
        head,
        [
            [
                one.version,
                moment(one.begin),
                str(one.sessions),
                str(one.rated),
                percent(one.rate if one.rated else None),
                interval(one.ci95 if one.rated else None),
            ]
            for one in found
        ],
    )


def alarms(found: Sequence[Raised]) -> Table:
    """Reported alarms that held at the last check."""
    return Table(("alarm", "since", "version", "finding"), [[o.name, moment(o.at), o.about, o.text] for o in found])


def selected(found: Selection) -> Table:
    """The knowledge files of one round with their scores."""
    head = ("file", "score", "95% interval", "tokens", "drawn")
    rows = [
        [
            f"replica {file.replica}{' (chosen)' if file.chosen else ''}",
            percent(file.score.pass_rate),
            interval(file.score.ci95),
            str(file.tokens),
            percent(file.weight),
        ]
        for file in found.files
    ]
    without = ["no knowledge", percent(found.without.pass_rate), interval(found.without.ci95), "0", "-"]
    return Table(head, [*rows, without])
