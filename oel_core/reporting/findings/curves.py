"""The charts of a report and their series."""

from collections.abc import Sequence

from oel_core.reporting.findings.champions import RoundOutcome
from oel_core.reporting.findings.gather import RoundView
from oel_core.reporting.findings.model_results import HELD_OUT
from oel_core.reporting.page.charts import Chart, Point, Series
from oel_core.types import EvalReport

ARMS = {HELD_OUT: "consolidated (no knowledge)", "in_context": "knowledge in context", "raw": "raw episodes"}
ENTROPY = "Entropy of the student, nats a token"
LENGTH = "Response length in training, tokens"
SHARES = {
    "student_mass": "Student's probability of its top-k tokens in training",
    "teacher_mass": "Teacher's probability of the same tokens",
    "truncation_rate": "Responses cut at the token cap in training",
    "repetition_rate": "Repeated four-grams within responses in training",
}


def charts(
    found: Sequence[RoundView], outcomes: Sequence[RoundOutcome], changed: Sequence[int] = ()
) -> dict[str, Chart]:
    """Name → chart; charts without data are empty.

    Args:
        changed: rounds from which on the environment was another one; a line is drawn before each.
    """
    lines = [number - 0.5 for number in changed]
    suites = sorted({part for view in found for part in view.reports if part.startswith("ood/")})
    rates = [_by_round(found, *arm) for arm in ARMS.items()] + ([_champion(found, outcomes)] if outcomes else [])
    tokens = [_field(found, "response_tokens", "response tokens")]
    apart = [_by_round(found, part, part[4:]) for part in suites]
    cut = [_field(found, "truncation_rate", "cut"), _field(found, "invalid_rate", "invalid")]
    return {
        "pass_rate": Chart("Pass rate by round, 95% Wilson intervals", "round", rates, True, lines),
        "ood": Chart("Out of distribution", "round", apart, True, lines),
        "length": Chart("Tokens of a response", "round", tokens, changes=lines),
        "truncation": Chart("Answers cut at the token cap, invalid actions", "round", cut, True, lines),
        "saturation": Chart(
            "Saturation: pass rate in context on validation episodes, mean over replicas",
            "episodes extracted from",
            [_saturation(view) for view in found],
            True,
        ),
        **_distillation(found),
    }


def _distillation(found: Sequence[RoundView]) -> dict[str, Chart]:
    """Without a clip and retention terms the loss equals the divergence, so only one of them is drawn."""
    same = all(step.loss == step.kl for view in found for step in view.steps)
    loss = "Loss: divergence from the teacher, nats a token" if same else "Loss, with clip and retention terms"
    divergence = {} if same else {"kl": _training(found, "kl", "Divergence from the teacher, nats a token")}
    return {
        "loss": _training(found, "loss", loss),
        **divergence,
        "entropy": _training(found, "entropy", ENTROPY),
        "response_length": _training(found, "response_length", LENGTH),
        **{field: _training(found, field, title, percent=True) for field, title in SHARES.items()},
    }


def _by_round(found: Sequence[RoundView], part: str, name: str) -> Series:
    reports: list[tuple[int, EvalReport]] = [
        (view.number, view.reports[part]) for view in found if part in view.reports
    ]
    return Series(name, [Point(number, report.pass_rate, *report.ci95) for number, report in reports])


def _champion(found: Sequence[RoundView], outcomes: Sequence[RoundOutcome]) -> Series:
    """The champion's pass rate after each round."""
    rates = {view.number: view.summary.pass_rate for view in found}
    known = [(one.round, rates.get(one.champion)) for one in outcomes]
    return Series("champion after the round", [Point(number, rate) for number, rate in known if rate is not None])


def _field(found: Sequence[RoundView], field: str, name: str) -> Series:
    reports = [(view.number, view.reports[HELD_OUT]) for view in found if HELD_OUT in view.reports]
    return Series(name, [Point(number, getattr(report, field)) for number, report in reports])


def _saturation(view: RoundView) -> Series:
    points = view.saturation.means() if view.saturation else []
    return Series(f"round {view.number}", [Point(episodes, rate) for episodes, rate in points])


def _training(found: Sequence[RoundView], field: str, title: str, *, percent: bool = False) -> Chart:
    """Steps without the field, as the mass of an objective without top-k, have no point."""
    lines = [
        Series(
            f"round {view.number}",
            [Point(step.step, value) for step in view.steps if (value := getattr(step, field)) is not None],
        )
        for view in found
    ]
    return Chart(title, "optimiser step", lines, percent)
