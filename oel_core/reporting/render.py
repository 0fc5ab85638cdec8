"""From a run folder to `report.html`. Every text that a model or a user wrote is escaped and shows its hidden marks."""

from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from oel_core import verdict_text
from oel_core.artifacts import RunFolder
from oel_core.config import dump_config
from oel_core.files import write_atomic
from oel_core.reporting.charts import Chart, Point, Series, draw
from oel_core.reporting.gather import (
    RoundView,
    episode_pairs,
    gates,
    last_finished,
    rounds,
    versions,
)
from oel_core.reporting.learned import learned
from oel_core.types import EvalReport
from oel_core.visible import visible

REPORT_FILE = "report.html"
TEMPLATES = resources.files("oel_core.reporting") / "templates"


def write_report(run: RunFolder, path: Path | None = None) -> Path:
    """Writes the report, by default beside the run's configuration, and returns its path.

    The same files give the same bytes. An unfinished run is reported as far as it has come.

    Raises:
        ArtifactError: the folder is not a run, or one of its finished files is damaged.
    """
    target = path or run.path / REPORT_FILE
    write_atomic(target, render(run).encode("utf-8", errors="replace"))
    return target


def render(run: RunFolder) -> str:
    """The report's HTML."""
    config = run.config()
    found = rounds(config, run)
    measured = [view for view in found if "held_out" in view.reports]
    finished = last_finished(run)
    context: dict[str, Any] = {
        "run": run.name,
        "config": config,
        "finished": datetime.fromtimestamp(finished, UTC).strftime("%Y-%m-%d %H:%M UTC") if finished else None,
        "rounds": found,
        "measured": measured,
        "suites": sorted({suite for view in found for suite in view.summary.ood}),
        "charts": {name: draw(chart) for name, chart in charts(found).items()},
        "learned": learned(config, run),
        "pairs": episode_pairs(run, measured[-1].number if measured else 0),
        "gates": gates(run),
        "verdict": verdict_text,
        "settings": dump_config(config),
        "versions": versions(),
    }
    return _environment().from_string((TEMPLATES / "report.html.j2").read_text(encoding="utf-8")).render(context)


def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    environment.filters["percent"] = lambda value: "-" if value is None else f"{100 * value:.1f}%"
    environment.filters["number"] = lambda value: "-" if value is None else f"{value:.1f}"
    return environment


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def charts(found: list[RoundView]) -> dict[str, Chart]:
    """Name → chart; those without data are drawn as nothing."""
    suites = sorted({part for view in found for part in view.reports if part.startswith("ood/")})
    arms = {"held_out": "consolidated (no knowledge)", "in_context": "knowledge in context", "raw": "raw episodes"}
    return {
        "pass_rate": Chart("Pass rate by round", "round", [_by_round(found, *arm) for arm in arms.items()], True),
        "ood": Chart(
            "Out of distribution",
            "round",
            [_by_round(found, suite, suite.removeprefix("ood/")) for suite in suites],
            True,
        ),
        "length": Chart("Tokens of a response", "round", [_field(found, "response_tokens", "response tokens")]),
        "truncation": Chart(
            "Truncated and invalid answers",
            "round",
            [_field(found, "truncation_rate", "truncated"), _field(found, "invalid_rate", "invalid")],
            True,
        ),
        "saturation": Chart(
            "Score of the knowledge by episodes extracted from", "episodes", [_saturation(view) for view in found], True
        ),
        **{name: _training(found, name, title) for name, title in TRAINING.items()},
    }


TRAINING = {
    "loss": "Loss",
    "kl": "Reverse KL to the teacher, nats a token",
    "entropy": "Entropy of the student, nats a token",
    "response_length": "Response length in training, tokens",
}


def _by_round(found: list[RoundView], part: str, name: str) -> Series:
    reports: list[tuple[int, EvalReport]] = [(v.number, v.reports[part]) for v in found if part in v.reports]
    return Series(name, [Point(number, report.pass_rate, *report.ci95) for number, report in reports])


def _field(found: list[RoundView], field: str, name: str) -> Series:
    reports = [(view.number, view.reports["held_out"]) for view in found if "held_out" in view.reports]
    return Series(name, [Point(number, getattr(report, field)) for number, report in reports])


def _saturation(view: RoundView) -> Series:
    points = view.saturation.means() if view.saturation else []
    return Series(f"round {view.number}", [Point(episodes, rate) for episodes, rate in points])


def _training(found: list[RoundView], field: str, title: str) -> Chart:
    lines = [
        Series(f"round {view.number}", [Point(step.step, getattr(step, field)) for step in view.steps])
        for view in found
    ]
    return Chart(title, "optimiser step", lines)
