"""The verdict and the table of a run as a short Markdown page, for run descriptions."""

from oel_core.reporting.findings.gather import assessed, rounds
from oel_core.reporting.page import tables
from oel_core.reporting.page.answers import answers
from oel_core.runs.folder import RunFolder
from oel_core.text.markdown import escaped, table


def note(run: RunFolder, *, most: int) -> str:
    """The page, at most `most` characters: the newest rounds are kept.

    Raises:
        ArtifactError: a finished file of the run is damaged.
    """
    config = run.config()
    found = rounds(config, run)
    assessment, _ = assessed(config, run, found)
    reached = tables.measured(found)
    said = answers(assessment) if assessment else ()
    parts = [f"**{one.question}** {escaped(one.short)}. {' '.join(map(escaped, one.details))}" for one in said]
    rows = list(reached.rows)
    while rows and len("\n\n".join([*parts, table(reached.head, rows)])) > most:
        rows = rows[1:]
    return "\n\n".join([*parts, table(reached.head, rows)])[:most]
