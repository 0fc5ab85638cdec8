"""A round as Markdown: its results beside the base model's, and the diff of its knowledge."""

from collections.abc import Sequence

from flows.pages.gate import gate_key, slug
from flows.pages.outcome import outcome_details, outcome_line
from oel_core.knowledge.store import KnowledgeDiff, diff
from oel_core.projects.review import ReviewItem, ReviewList, review_list
from oel_core.projects.triggers import Trigger
from oel_core.reporting.findings.learned import before_and_after, known_replicas
from oel_core.rounds.round import Round
from oel_core.rounds.summary import RoundSummary, summarise_round, summarise_run
from oel_core.runs.folder import RunFolder
from oel_core.text.figures import interval, mean, percent
from oel_core.text.markdown import escaped
from oel_core.text.markdown import table as markdown_table
from oel_core.text.visible import visible
from oel_core.types import ExperienceItem


def artifact_key(run: RunFolder, round_index: int) -> str:
    """The key of a round's artifact."""
    return f"{slug(run)}-round-{round_index:02d}"


def report_key(run: RunFolder) -> str:
    """The key of the artifact that links to the run's report."""
    return f"{slug(run)}-report"


def review_key(run: RunFolder, round_index: int) -> str:
    """The key of the artifact with the items under review."""
    return f"{slug(run)}-review-{round_index:02d}"


def review_markdown(round: Round) -> str:
    """The round's items with numbers and sources, possible conflicts, and dropped items."""
    found, name = review_list(round), round.run.name
    parts = [f"# Review of {name}, round {round.number}", f"Or: `oel review {name} --approve --drop 3,7`"]
    for replica in range(round.config.collect.replicas):
        lines = [line for entry in found.items if entry.replica == replica for line in review_lines(entry)]
        lines += [f"-      {line}" for place, item in found.gone if place == replica for line in _lines(item)]
        parts += [f"## Replica {replica}", _diff_block(lines)]
    parts += contradiction_lines(found)
    return "\n\n".join(parts) + "\n"


def review_lines(entry: ReviewItem) -> list[str]:
    """An item under review: `+` if new, number, text, provenance."""
    first, *rest = _lines(entry.item) or [""]
    others = f"; see also {', '.join(map(str, entry.conflicts))}" if entry.conflicts else ""
    head = f"{'+' if entry.is_new else ' '} {entry.number:4d} {first}"
    tail = f"       from round {entry.item.round}, {', '.join(entry.item.sources[:3])}{others}"
    return [head, *(f"       {line}" for line in rest), tail]


def contradiction_lines(found: ReviewList) -> list[str]:
    """A sentence for each group of items with the same subject and different statements."""
    return [
        f"Items {', '.join(map(str, group))} say different things about the same: they may contradict each other."
        for group in found.contradictions
    ]


def report_markdown(run: RunFolder, place: str) -> str:
    """The rounds as a table and the report's location: `place` is a URL or a path."""
    return f"# Report on {run.name}\n\n{_report_link(place)}\n\n{table(summarise_run(run))}\n"


def _report_link(place: str) -> str:
    if place.startswith(("http://", "https://")):
        return f"[The whole report](<{place}>)"
    return f"The whole report: {escaped(place)} on the machine that wrote it. `oel up` starts a server that shows it."


def outcome_key(run: RunFolder) -> str:
    """The key of the artifact with the outcome of the newest trigger."""
    return f"{slug(run)}-outcome"


def outcome_markdown(run: RunFolder, trigger: Trigger, place: str) -> str:
    """The outcome of a trigger, the rounds so far, and the report's location `place`."""
    parts = [f"# {run.name}: {escaped(outcome_line(trigger))}"]
    details = outcome_details(run, trigger)
    parts += ["\n".join(f"- {escaped(line)}" for line in details)] if details else []
    if trigger.round is not None:
        parts += [table(summarise_run(run)), _report_link(place)]
        keys = f"`{gate_key(run, trigger.round)}` and `{artifact_key(run, trigger.round)}`"
        parts.append(f"The gate's figures and what the round learned are the artifacts {keys}.")
    parts.append(f"Who became champion and why: `oel history {run.name}`")
    return "\n\n".join(parts) + "\n"


def round_markdown(run: RunFolder, round_index: int) -> str:
    """Table and knowledge diff of a finished round."""
    config = run.config()
    rows = [summarise_round(Round(config, run, index)) for index in range(round_index + 1)]
    parts = [f"# {run.name}, round {round_index}", table(rows)]
    for replica in known_replicas(run, round_index):
        changes = diff(*before_and_after(run, round_index, replica))
        parts += [f"## Knowledge of replica {replica}", diff_markdown(changes)]
    return "\n\n".join(parts) + "\n"


def table(rows: Sequence[RoundSummary]) -> str:
    """The rows as a Markdown table."""
    return markdown_table(columns(rows), [cells(row, rows) for row in rows])


def columns(rows: Sequence[RoundSummary]) -> list[str]:
    """Headings; one column for each out-of-distribution suite that any row has."""
    start = ["start model"] if _has_start(rows) else []
    fixed = ["round", "pass rate", "95% interval", *start, "in context", "raw", "resp. tokens", "know. tokens"]
    return [*fixed, *(f"ood {suite}" for suite in _suites(rows))]


def cells(row: RoundSummary, rows: Sequence[RoundSummary]) -> list[str]:
    """One row under `columns(rows)`."""
    return [
        str(row.round),
        percent(row.pass_rate),
        interval(row.ci95),
        *([percent(row.start_pass_rate)] if _has_start(rows) else []),
        percent(row.in_context_pass_rate),
        percent(row.raw_pass_rate),
        mean(row.response_tokens),
        mean(row.knowledge_tokens),
        *(percent(row.ood.get(suite)) for suite in _suites(rows)),
    ]


def _has_start(rows: Sequence[RoundSummary]) -> bool:
    """Whether rounds were measured on cases of their own, where the start model has a rate in each."""
    return any(row.start_pass_rate is not None for row in rows)


def _suites(rows: Sequence[RoundSummary]) -> list[str]:
    return sorted({suite for row in rows for suite in row.ood})


def diff_markdown(changes: KnowledgeDiff) -> str:
    """Kept, new and dropped items as a diff block."""
    marked = [("  ", changes.kept), ("- ", changes.dropped), ("+ ", changes.new)]
    lines = [f"{mark}{line}" for mark, items in marked for item in items for line in _lines(item)]
    return _diff_block(lines)


def _diff_block(lines: Sequence[str]) -> str:
    """A code block of untrusted text: escapes fences and control characters."""
    body = visible("\n".join(lines)).replace("```", "` ` `")
    return f"```diff\n{body or '  (nothing)'}\n```"


def _lines(item: ExperienceItem) -> list[str]:
    return item.text.splitlines()
