"""What a set of cases holds, in numbers."""

from collections.abc import Sequence

from oel_core.cases.case import Case, Share
from oel_core.cases.questions import scorable
from oel_core.cases.scorers.base import Scorer
from oel_core.types import Record


class SetSummary(Record):
    """One round's set."""

    round: int
    digest: str
    held_out: int
    """Sessions, as are the others; of each a model is asked one request."""
    scorable: int
    """Of the held-out ones, those that the project's scorer can score."""
    new: int
    """Of the scorable ones, those that the round itself has set apart."""
    validation: int
    """Scorable too."""
    answers: int
    """Cases with a right answer."""
    verdicts: int
    """Cases whose recorded answer people called right or wrong."""


def summarise_set(cases: Sequence[Case], scorer: Scorer | None, round_index: int, digest: str) -> SetSummary:
    """The numbers of a round's set."""
    found = scorable(cases, scorer)
    return SetSummary(
        round=round_index,
        digest=digest,
        held_out=_sessions(cases, "held_out"),
        scorable=_sessions(found, "held_out"),
        new=_sessions([case for case in found if case.round == round_index], "held_out"),
        validation=_sessions(found, "validation"),
        answers=sum(bool(case.answers) for case in cases),
        verdicts=sum(case.verdict is not None for case in cases),
    )


def _sessions(cases: Sequence[Case], share: Share) -> int:
    return len({case.session for case in cases if case.share == share})
