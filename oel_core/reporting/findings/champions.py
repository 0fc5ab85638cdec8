"""The champions over time, from the run's own files."""

from dataclasses import dataclass

from oel_core.projects.triggers import outcome_of
from oel_core.runs.folder import RunFolder
from oel_core.runs.round_start import parent_of


@dataclass(frozen=True)
class RoundOutcome:
    """The outcome of one recurring round. A manual change of the champion appears as the parent of the next round."""

    round: int
    parent: int
    """The champion that the round started from."""
    outcome: str
    champion: int
    """Champion after the round; 0 is the base model."""
    detail: str
    at: float
    """Seconds since 1970, UTC."""


def round_outcomes(run: RunFolder) -> list[RoundOutcome]:
    """Every round that a trigger ended, in order; an empty list for a run without a gate."""
    ended = [(index, outcome_of(run, index)) for index in run.rounds()]
    return [
        RoundOutcome(index, parent_of(run, index), over.outcome, over.champion or 0, over.detail, over.at)
        for index, over in ended
        if over is not None
    ]
