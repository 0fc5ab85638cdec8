"""Errors that interrupted a round, recorded with the round: an error that repeats is permanent."""

import time

from oel_core.rounds.round import Round
from oel_core.runs.jsonl import JsonlWriter, recover_jsonl
from oel_core.text.visible import well_formed
from oel_core.types import Record

FAILURES = "failures.jsonl"


class Failure(Record):
    """A line of `failures.jsonl` in a round's folder."""

    kind: str
    """Name of the error's type."""
    message: str
    at: float
    """Seconds since 1970, UTC."""


def happened_before(round: Round, error: Exception) -> bool:
    """Records an error of a round, and returns whether an earlier attempt failed with the same one.

    A round is deterministic, so an error that is not a transient fault of disk, network or server repeats.
    """
    path = round.path / FAILURES
    new = Failure(kind=type(error).__name__, message=well_formed(str(error)), at=time.time())
    known = {(one.kind, one.message) for one in recover_jsonl(path, Failure)}
    with JsonlWriter(path) as writer:
        writer.append(new)
    return (new.kind, new.message) in known
