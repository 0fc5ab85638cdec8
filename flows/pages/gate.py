"""What a gate decided, in Markdown: every condition with its figure, and the comparisons they rest on."""

import re

from oel_core.gate.promotion import Verdict
from oel_core.gate.verdict_text import CHECKS, COMPARED, NOTE, check_rows, compared_rows, title
from oel_core.projects.settings import told_changes
from oel_core.projects.triggers import Trigger
from oel_core.runs.folder import RunFolder
from oel_core.runs.round_start import read_start
from oel_core.text.markdown import MOST, escaped, table
from oel_core.text.visible import visible_line


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
    ]
    return "\n\n".join(parts) + "\n"


def outcome_line(trigger: Trigger) -> str:
    """What came of a trigger, in one line."""
    which = f"round {trigger.round} {trigger.outcome}" if trigger.round is not None else trigger.outcome
    first, _, _ = trigger.detail.partition("\n")
    return f"{which}: {visible_line(first, MOST)}" if first else which


def outcome_details(run: RunFolder, trigger: Trigger) -> list[str]:
    """What else there is to say of it: which settings it changed, which lines of the inbox were left out and why."""
    start = read_start(run, trigger.round) if trigger.round is not None else None
    left_out = start.inbox_left_out if start is not None else ()
    return [visible_line(line, MOST) for line in [*told_changes(run, trigger.id), *left_out, *_more(trigger)]]


def _more(trigger: Trigger) -> list[str]:
    return trigger.detail.split("\n")[1:]
