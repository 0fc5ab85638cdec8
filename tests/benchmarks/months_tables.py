"""Tables and curves of the months benchmark: from one row for each round of each run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from oel_core.evaluation.stats import mean_over_seeds
from tests.benchmarks.report import Line, Plot, table

PERIOD = 4
"""Rounds of the last means before and after the change."""


@dataclass(frozen=True)
class Row:
    """One round of one run."""

    world: str
    defence: str
    seed: int
    round: int
    """0 is the base model."""
    changed: bool
    """Whether the round plays by the new rules."""
    present: float
    """Pass rate on held-out boards of the world as it is in this round."""
    old: float
    """The same boards by the rules before the change."""
    served: float
    """Pass rate of the champion after the round, on held-out boards of the world as it is in this round."""
    promoted: float | None
    """Whether the gate promoted the round's model; None without a gate."""
    pairs: float | None
    """Pairs of new held-out boards that the gate's trial played."""
    response_tokens: float
    entropy: float | None
    """Of the student in the round's last step, nats a token."""
    kl: float | None
    """From the teacher with knowledge, in the round's last step, nats a token."""
    base_kl: float | None
    """From the base model, on the first held-out responses of the round's model, nats a token; None: not measured."""
    contrary: float | None
    """Pass rate by the rules of the other side of the change, with true knowledge of them in the prompt; None: not
    measured."""
    hedged: float | None
    """Share of boards with letters never met whose first response, without knowledge, claims no letter's meaning; None
    where it was not measured, or nothing is to be learnt of letters."""
    stale: float | None
    """Share of the knowledge files with an item that the round's rules contradict."""
    knowledge_tokens: float | None
    seconds: float
    """Of the round's stages, by the wall clock."""
    bytes: int
    """Of the round's folder."""


def percent(value: float) -> str:
    return f"{100 * value:.0f}"


COLUMNS: dict[str, tuple[Callable[[Row], float | None], Callable[[float], str]]] = {
    "present world %": (lambda row: row.present, percent),
    "old world %": (lambda row: row.old, percent),
    "served %": (lambda row: row.served, percent),
    "promoted": (lambda row: row.promoted, "{:.0f}".format),
    "pairs": (lambda row: row.pairs, "{:.0f}".format),
    "stale files %": (lambda row: row.stale, percent),
    "response tokens": (lambda row: row.response_tokens, "{:.1f}".format),
    "entropy": (lambda row: row.entropy, "{:.3f}".format),
    "KL from the teacher": (lambda row: row.kl, "{:.4f}".format),
    "KL from the base": (lambda row: row.base_kl, "{:.3f}".format),
    "contrary knowledge followed %": (lambda row: row.contrary, percent),
    "hedged %": (lambda row: row.hedged, percent),
    "knowledge tokens": (lambda row: row.knowledge_tokens, "{:.1f}".format),
}
"""Heading → its value in a row, and how the value is written."""
CURVES = ("present world %", "old world %", "served %", "stale files %", "response tokens", "entropy")
AT_ENDS = (
    *("present world %", "old world %", "served %", "contrary knowledge followed %", "hedged %", "KL from the base"),
    *("entropy", "response tokens"),
)


def cell(rows: Sequence[Row], column: str) -> str:
    """The mean over seeds, and each seed's value."""
    value, text = COLUMNS[column]
    values = [found for row in rows if (found := value(row)) is not None]
    if not values:
        return "-"
    each = f" ({', '.join(map(text, values))})" if len(values) > 1 else ""
    return text(fmean(values)) + each


def markdown(rows: Sequence[Row], defences: Sequence[str]) -> str:
    """A table for each defence, with a row a round."""
    parts = []
    for defence in defences:
        own = [row for row in rows if row.defence == defence]
        numbers = sorted({row.round for row in own})
        lines = []
        for number in numbers:
            of_round = [row for row in own if row.round == number]
            rules = "new" if of_round[0].changed else "old"
            lines.append([number, rules, len(of_round), *(cell(of_round, column) for column in COLUMNS)])
        parts.append(f"### {defence}\n\n{table(['round', 'rules', 'seeds', *COLUMNS], lines)}")
    return "\n\n".join(parts)


def moments(rows: Sequence[Row], defences: Sequence[str], numbers: Sequence[int]) -> str:
    """A row for each defence at each of some rounds: the mean over seeds, and each seed's value."""
    lines = [
        [name, number, len(found), *(cell(found, column) for column in AT_ENDS)]
        for number in numbers
        for name in defences
        if (found := [row for row in rows if (row.defence, row.round) == (name, number)])
    ]
    return table(["", "round", "seeds", *AT_ENDS], lines)


def means(rows: Sequence[Row], defences: Sequence[str], rounds: int, change: int) -> str:
    """Pass rates that are served, over groups of rounds, and their differences from `none` on the same loop seeds.

    Mean over seeds and its 95% t interval. After its last round a stopped run goes on serving its last model; one that
    was stopped before the change is left out of the groups after it.
    """
    groups = {
        f"rounds 1 to {change - 1}": range(1, change),
        f"{change - PERIOD} to {change - 1}": range(change - PERIOD, change),
        f"{change} to {rounds}": range(change, rounds + 1),
        f"{rounds - PERIOD + 1} to {rounds}": range(rounds - PERIOD + 1, rounds + 1),
    }
    served = {
        group: {name: by_seed(rows, name, numbers, change) for name in {"none", *defences}}
        for group, numbers in groups.items()
    }
    lines = []
    for name in defences:
        last = {row.seed: row.round for row in sorted(rows, key=lambda row: row.round) if row.defence == name}
        cells = [interval([100 * rate for rate in served[group][name].values()]) for group in groups]
        for group in groups:
            own, plain = served[group][name], served[group]["none"]
            cells.append(interval([100 * (own[seed] - plain[seed]) for seed in own if seed in plain]))
        lines.append([name, ", ".join(str(last[seed]) for seed in sorted(last)), *cells])
    return table(["", "last round by seed", *groups, *(f"{group}, minus none" for group in groups)], lines)


def by_seed(rows: Sequence[Row], defence: str, numbers: range, change: int) -> dict[int, float]:
    """Seed → its mean served pass rate in these rounds; the last round counts for those after it of the same rules."""
    found = {}
    for seed in sorted({row.seed for row in rows if row.defence == defence}):
        own = {row.round: row for row in rows if (row.defence, row.seed) == (defence, seed)}
        last = own[max(own)]
        if last.changed or numbers[0] < change:
            found[seed] = fmean(own.get(number, last).served for number in numbers)
    return found


def interval(values: Sequence[float]) -> str:
    """The mean and its 95% interval."""
    if not values:
        return "-"
    found = mean_over_seeds(values)
    return f"{found.value:.0f}" + (f" ({found.low:.0f} to {found.high:.0f})" if len(values) > 1 else "")


def curves(rows: Sequence[Row], defences: Sequence[str]) -> list[Plot]:
    """The mean over seeds by round, a line for each defence."""
    plots = []
    for column in CURVES:
        value, _ = COLUMNS[column]
        lines = []
        for defence in defences:
            points: dict[int, list[float]] = {}
            for row in rows:
                if row.defence == defence and (found := value(row)) is not None:
                    points.setdefault(row.round, []).append(found * (100 if column.endswith("%") else 1))
            lines.append(Line(defence, sorted(points), [fmean(points[number]) for number in sorted(points)]))
        plots.append(Plot(column, "round", column, lines))
    return plots
