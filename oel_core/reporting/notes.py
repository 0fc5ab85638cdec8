"""The verdict and the table of a run as a short Markdown page, for places that show a description of a run."""

from oel_core.artifacts import RunFolder
from oel_core.markdown import table
from oel_core.reporting import tables
from oel_core.reporting.answers import answers
from oel_core.reporting.gather import assessed, rounds


def note(run: RunFolder, *, most: int) -> str:
    """The page, at most `most` characters: of many rounds the newest are shown.

    Raises:
        ArtifactError: a finished file of the run is damaged.
    """
    config = run.config()
    found = rounds(config, run)
    assessment, _ = assessed(config, run, found)
    reached = tables.measured(found)
    said = answers(assessment) if assessment else ()
    parts = [f"**{answer.question}** {answer.short}. {' '.join(answer.details)}" for answer in said]
    rows = list(reached.rows)
    while rows and len("\n\n".join([*parts, table(reached.head, rows)])) > most:
        rows = rows[1:]
    return "\n\n".join([*parts, table(reached.head, rows)])[:most]
