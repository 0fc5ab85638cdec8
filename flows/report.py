"""What a round looks like in Markdown: its row beside the base model's, and what its knowledge gained and lost."""

import re
from collections.abc import Sequence

from oel_core.artifacts import RunFolder
from oel_core.knowledge import KnowledgeDiff, diff, empty, load_knowledge
from oel_core.round_start import knowledge_before
from oel_core.summary import RoundSummary, summarise_round
from oel_core.types import ExperienceItem


def artifact_key(run: RunFolder, round_index: int) -> str:
    """A key as Prefect wants it: lower-case letters, digits and dashes."""
    return f"{re.sub(r'[^a-z0-9]+', '-', run.name.lower()).strip('-')}-round-{round_index:02d}"


def round_markdown(run: RunFolder, round_index: int) -> str:
    """Table and knowledge diff of a finished round."""
    config = run.config()
    rows = [summarise_round(config, run, index) for index in range(round_index + 1)]
    parts = [f"# {run.name}, round {round_index}", table(rows)]
    for replica in range(config.collect.replicas):
        changes = knowledge_changes(run, round_index, replica)
        parts += [f"## Knowledge of replica {replica}", diff_markdown(changes)]
    return "\n\n".join(parts) + "\n"


def knowledge_changes(run: RunFolder, round_index: int, replica: int) -> KnowledgeDiff:
    """What a round's knowledge has that the one it went on from had not, and the other way round."""
    new = load_knowledge(run.stage_path(round_index, "accumulate"), replica)
    before = knowledge_before(run, round_index)
    if before is None:
        return diff(empty(replica, round_index), new)
    return diff(load_knowledge(run.stage_path(before, "accumulate"), replica), new)


def table(rows: Sequence[RoundSummary]) -> str:
    """The rows as a Markdown table."""
    head = columns(rows)
    body = [cells(row, rows) for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *body])


def columns(rows: Sequence[RoundSummary]) -> list[str]:
    """Headings; one column for each out-of-distribution suite that any row has."""
    fixed = ["round", "pass rate", "95% interval", "in context", "raw", "resp. tokens", "know. tokens"]
    return [*fixed, *(f"ood {suite}" for suite in _suites(rows))]


def cells(row: RoundSummary, rows: Sequence[RoundSummary]) -> list[str]:
    """One row under `columns(rows)`."""
    return [
        str(row.round),
        percent(row.pass_rate),
        interval(row.ci95),
        percent(row.in_context_pass_rate),
        percent(row.raw_pass_rate),
        number(row.response_tokens),
        number(row.knowledge_tokens),
        *(percent(row.ood.get(suite)) for suite in _suites(rows)),
    ]


def _suites(rows: Sequence[RoundSummary]) -> list[str]:
    return sorted({suite for row in rows for suite in row.ood})


def percent(value: float | None) -> str:
    """A share as a percentage with one digit; a dash when it was not measured."""
    return "-" if value is None else f"{100 * value:.1f}%"


def interval(ci95: tuple[float, float] | None) -> str:
    """An interval of shares in percent."""
    return "-" if ci95 is None else f"{100 * ci95[0]:.1f} to {100 * ci95[1]:.1f}"


def number(value: float | None) -> str:
    """A mean count with one digit."""
    return "-" if value is None else f"{value:.1f}"


def diff_markdown(changes: KnowledgeDiff) -> str:
    """Kept, new and dropped items as a diff block."""
    marked = [("  ", changes.kept), ("- ", changes.dropped), ("+ ", changes.new)]
    lines = [f"{mark}{line}" for mark, items in marked for item in items for line in _lines(item)]
    return "```diff\n" + ("\n".join(lines) or "  (nothing)") + "\n```"


def _lines(item: ExperienceItem) -> list[str]:
    return item.text.splitlines()
