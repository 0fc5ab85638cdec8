"""A gate's verdict as Markdown: every condition with its value, and the comparisons."""

import re

from oel_core.gate.ledger import read_ledger
from oel_core.gate.promotion import Verdict
from oel_core.gate.trial_text import TRIALS, budget_text, trial_rows, trial_text
from oel_core.gate.verdict_text import CHECKS, COMPARED, NOTE, check_rows, compared_rows, title
from oel_core.runs.folder import RunFolder
from oel_core.text.markdown import escaped, table


def slug(run: RunFolder) -> str:
    """The run's name as Prefect wants keys: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", run.name.lower()).strip("-")


def gate_key(run: RunFolder, round_index: int) -> str:
    """The key of the artifact with a gate's figures."""
    return f"{slug(run)}-gate-{round_index:02d}"


def gate_markdown(run: RunFolder, verdict: Verdict, detail: str) -> str:
    """The verdict on a round."""
    parts = [
        f"# {run.name}: {title(verdict)}",
        f"**{'Promote' if verdict.promote else 'Refuse'}**: {escaped(detail)}",
        table(CHECKS, check_rows(verdict)),
        table(COMPARED, compared_rows(verdict)),
        NOTE,
        *_budget(run, verdict),
    ]
    return "\n\n".join(parts) + "\n"


def _budget(run: RunFolder, verdict: Verdict) -> list[str]:
    """The trial and the project's error budget; nothing for a verdict without a trial."""
    if verdict.trial is None:
        return []
    ledger = read_ledger(run)
    left = budget_text(ledger, verdict.settings.sequential.error_budget)
    return ["## Error budget", trial_text(verdict), table(TRIALS, trial_rows(ledger)), left]
