"""Renders `report.html` from a run folder. All text of models and users is escaped, with hidden characters made
visible."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from oel_core.config.run import OelConfig, dump_config
from oel_core.gate import trial_text, verdict_text
from oel_core.gate.ledger import read_ledger
from oel_core.health.alarms import read_alarms
from oel_core.reporting.findings.champions import RoundOutcome, round_outcomes
from oel_core.reporting.findings.curves import charts
from oel_core.reporting.findings.deployment import by_version, deployment_chart, spans
from oel_core.reporting.findings.gather import (
    RoundView,
    assessed,
    episode_pairs,
    gates,
    last_finished,
    rounds,
    versions,
)
from oel_core.reporting.findings.learned import learned
from oel_core.reporting.findings.model_results import HELD_OUT
from oel_core.reporting.page import tables
from oel_core.reporting.page.answers import answers
from oel_core.reporting.page.charts import draw
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder
from oel_core.text import figures
from oel_core.text.visible import visible

REPORT_FILE = "report.html"
PAGE = "report.html.j2"


def write_report(run: RunFolder, path: Path | None = None) -> Path:
    """Writes the report, by default beside the run's configuration, and returns its path.

    Deterministic: the same files give the same bytes. An unfinished run is reported up to its last finished stage.

    Raises:
        ArtifactError: the folder is not a run, or one of its finished files is damaged.
    """
    target = path or run.path / REPORT_FILE
    write_atomic(target, render(run).encode("utf-8", errors="replace"))
    return target


def render(run: RunFolder) -> str:
    """The report's HTML."""
    config = run.config()
    found, recurring = rounds(config, run), round_outcomes(run)
    measured = [view for view in found if HELD_OUT in view.reports]
    changes = [change for change in config.environment.changes if found and change.round <= found[-1].number]
    drawn = charts(found, recurring, [change.round for change in changes])
    finished = last_finished(run)
    context: dict[str, Any] = {
        "run": run.name,
        "config": config,
        "finished": tables.moment(finished) if finished else None,
        "rounds": found,
        "world_changes": changes,
        "measured": measured,
        "charts": {name: (chart.title, draw(chart)) for name, chart in drawn.items()},
        "learned": learned(config, run),
        "pairs": episode_pairs(run, measured[-1].number if measured else 0),
        "gates": gates(run),
        "verdict": verdict_text,
        "trial_text": trial_text.trial_text,
        **_budget(config, run),
        "alarms": tables.alarms(raised) if (raised := read_alarms(run).raised) else None,
        "selected": tables.selected,
        "settings": dump_config(config),
        "versions": versions(),
        **_assessed(config, run, found),
        **_deployed(config),
        **_tables(found, measured, recurring),
    }
    return _environment().get_template(PAGE).render(context)


def _budget(config: OelConfig, run: RunFolder) -> dict[str, Any]:
    """The trials of the gate's error budget; None where there was none."""
    ledger = read_ledger(run)
    rows = tables.Table(trial_text.TRIALS, trial_text.trial_rows(ledger))
    left = trial_text.budget_text(ledger, config.gate.sequential.error_budget)
    return {"trials": rows if ledger.trials else None, "budget": left}


def _assessed(config: OelConfig, run: RunFolder, found: list[RoundView]) -> dict[str, Any]:
    """The verdict as text and its differences; empty if nothing can be compared."""
    assessment, apart = assessed(config, run, found)
    return {
        "answers": answers(assessment) if assessment else (),
        "changes": tables.changes(assessment) if assessment else None,
        "apart": apart,
    }


def _deployed(config: OelConfig) -> dict[str, Any]:
    """What people thought of each version's answers; None without an inbox whose sessions somebody rated."""
    inbox = config.experience.inbox
    found = spans(Path(inbox)) if inbox is not None else []
    chart = deployment_chart(found)
    return {
        "deployed": (chart.title, draw(chart)) if chart else None,
        "versions_deployed": tables.versions_deployed(by_version(found)) if chart else None,
    }


def _tables(found: list[RoundView], measured: list[RoundView], recurring: list[RoundOutcome]) -> dict[str, Any]:
    return {
        "reached": tables.measured(found),
        "failed": tables.failed(measured) if measured else None,
        "efforts": tables.efforts(found),
        "champions": tables.champions(recurring) if recurring else None,
    }


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("oel_core.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["percent"] = figures.percent
    return environment


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
