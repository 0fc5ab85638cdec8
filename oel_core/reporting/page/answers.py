"""An assessment as text: three questions of a reader, each with a short answer and its evidence."""

from collections.abc import Sequence
from dataclasses import dataclass

from oel_core.reporting.findings.assessment import LEVEL, Assessment, Change, Finding, RoundChange
from oel_core.text.figures import percent, points, points_interval

FOUND: dict[Finding, str] = {
    "better": "Better than {}",
    "worse": "Worse than {}",
    "equal": "No measurable difference to {}",
    "unknown": "Too little data beside {}",
}


@dataclass(frozen=True)
class Answer:
    """One question with its answer."""

    question: str
    short: str
    details: Sequence[str]
    """The evidence in whole sentences."""


def name(number: int) -> str:
    """A round's model in a sentence."""
    return f"round {number}" if number else "the base model"


def chance(value: float) -> str:
    """A probability with a suitable number of digits."""
    return "below 0.0001" if value < 1e-4 else f"{value:.4f}" if value < 0.01 else f"{value:.2f}"


def answers(found: Assessment) -> Sequence[Answer]:
    """Is the newest round better? Is that statistically significant? Which round should be served?"""
    newest = found.rounds[-1]
    serve = Answer("Which round to serve?", name(found.serve).capitalize(), _reasons(found))
    return [_better(newest), _beyond_chance(newest), serve]


def _better(newest: RoundChange) -> Answer:
    found = _against(newest)
    first, *rest = [FOUND[change.finding].format(name(change.against)) for change in found]
    details = [_rates(newest.round, newest.to_base)]
    details += [
        f"Against {name(change.against)}, which it started from: {_difference(change)}." for change in found[1:]
    ]
    details += [
        f"On the out-of-distribution suite {suite} it passes {percent(lost.second)}, the base model "
        f"{percent(lost.first)}: {points(lost.difference)} points, a larger loss than the gate tolerates."
        for suite, lost in newest.ood_losses.items()
    ]
    short = ", ".join([first, *(f"{one[0].lower()}{one[1:]}" for one in rest)])
    return Answer("Is it better than before?", short, details)


def _against(newest: RoundChange) -> list[Change]:
    """Compared with the base model and, if that is another one, with the model that the round started from."""
    return [newest.to_base, *([newest.to_before] if newest.to_before.against else [])]


def _rates(number: int, change: Change) -> str:
    found = change.compared
    return (
        f"{name(number).capitalize()} passes {percent(found.second)} of {found.episodes} held-out episodes, "
        f"{name(change.against)} {percent(found.first)}: {_difference(change)}."
    )


def _difference(change: Change) -> str:
    found = change.compared
    return (
        f"{points(found.difference)} points (95% interval {points_interval(found.low, found.high)}), "
        f"{found.won} episodes newly won and {found.lost} newly lost"
    )


def _beyond_chance(newest: RoundChange) -> Answer:
    found = _against(newest)
    short = {"unknown": "Too little data", "equal": "No"}.get(newest.to_base.finding, "Yes")
    return Answer("Is that more than chance?", short, [_chance_of(change) for change in found])


def _chance_of(change: Change) -> str:
    found, against = change.compared, f"Against {name(change.against)}:"
    if change.finding == "unknown":
        return f"{against} {found.episodes} paired episodes are fewer than the gate asks for."
    split = (
        f"{against} were both equally good, a split as uneven as {found.won} won to {found.lost} lost would have "
        f"probability {chance(change.chance)}"
    )
    if change.finding == "equal":
        return f"{split}; anything from {points_interval(found.low, found.high)} points fits the data."
    return f"{split}."


def _reasons(found: Assessment) -> list[str]:
    over = [f"{name(index).capitalize()} passes more, but loses too much elsewhere." for index in found.passed_over]
    if found.reason == "champion":
        return ["It is the champion after the newest trigger: the promotion gate decides which round serves."]
    if found.reason == "too_little":
        return ["No round was measured on as many episodes as the gate asks for."]
    count, level = len(found.rounds), LEVEL / len(found.rounds)
    bar = f"better than the base model with a probability of chance below {level:.2g}"
    if count > 1:
        bar += f" ({LEVEL:g} divided by the {count} rounds to choose from)"
    bar += ", and not below it by more than the gate tolerates on any out-of-distribution suite"
    if found.reason == "none_better":
        return [f"No round is {bar}.", *over]
    note = [
        "The highest of several rounds is high partly by luck: measure it on other episodes before quoting its rate."
    ]
    return [f"The highest pass rate among the rounds that are {bar}.", *(note if count > 1 else []), *over]
