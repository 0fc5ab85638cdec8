"""The findings about a project, from its inbox and the reports of its rounds."""

from pathlib import Path

from oel_core.cases.scorers.agreement import Agreement
from oel_core.config.run import OelConfig
from oel_core.health.alarms import Finding, examine
from oel_core.health.sessions import sessions
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder


def project_findings(config: OelConfig, run: RunFolder, champion: str, before: str) -> list[Finding]:
    """The findings about a project. Without an inbox only a judge is tested.

    Args:
        champion: label of the version that serves: its number in the registry, or `base` for the preset's model.
        before: label of the version that it replaced.

    Raises:
        ArtifactError: a report is damaged.
    """
    inbox = Path(config.experience.inbox) if config.experience.inbox is not None else None
    found = sessions(inbox) if inbox is not None and inbox.is_dir() else []
    return examine(found, _judged(config, run), run.name, champion, before, config.alarms)


def _judged(config: OelConfig, run: RunFolder) -> list[Agreement]:
    """A judge's agreement with people in each measured round, oldest first; empty without a judge."""
    reports = (Round(config, run, number).report("held_out") for number in run.rounds())
    found = [report.extra["judge"] for report in reports if report is not None and "judge" in report.extra]
    return [Agreement.model_validate({name: one[name] for name in Agreement.model_fields}) for one in found]
