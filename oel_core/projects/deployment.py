"""What the gateway writes beside an inbox's episodes: feedback that came late, shadow answers, withdrawn candidates.

The files lie in the folder `deployment` of the inbox, so that no round takes their lines for episodes. A kill of the
gateway may leave a line twice, which says the same twice.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from oel_core.runs.jsonl import LineError, parse_line, whole_lines
from oel_core.types import Feedback, Record, Trajectory

DEPLOYMENT, WITHDRAWN = "deployment", "withdrawn.jsonl"
LATE, SHADOW = "feedback-", "shadow-"
"""How the files' names begin; the day follows."""
R = TypeVar("R", bound=Record)


class LateFeedback(Record):
    """A line of `feedback-DATE.jsonl`: all the feedback on an episode, since some came after it was written down."""

    episode: str
    given: tuple[tuple[Feedback, ...], ...]
    """For each turn, as `Turn.given` has it."""
    reward: float
    feedback: str
    at: float
    """When the last of it came, seconds since 1970, UTC."""


class ShadowAnswer(Record):
    """A line of `shadow-DATE.jsonl`: what a candidate would have answered. Nobody got it, no round learns from it."""

    episode: str
    turn: int = Field(ge=0)
    """The turn of the episode whose prompt it answers."""
    candidate: str
    """Version that gave it."""
    response: str
    """As `Turn.response`."""
    at: float
    """Seconds since 1970, UTC."""


class Withdrawal(Record):
    """A line of `withdrawn.jsonl`: a candidate that gets no traffic any more."""

    version: str
    reason: str
    at: float
    """Seconds since 1970, UTC."""


def late_feedback(inbox: Path) -> dict[str, LateFeedback]:
    """Episode → its feedback as the last line has it."""
    found: dict[str, LateFeedback] = {}
    for one in _records(inbox, LATE, LateFeedback):
        if one.episode not in found or found[one.episode].at <= one.at:
            found[one.episode] = one
    return found


def rated_again(episode: Trajectory, late: Mapping[str, LateFeedback]) -> Trajectory:
    """The episode with the feedback that came after it was written down, if any did."""
    found = late.get(episode.id)
    if found is None or len(found.given) != len(episode.turns):
        return episode
    turns = [turn.model_copy(update={"given": given}) for turn, given in zip(episode.turns, found.given, strict=True)]
    turns[-1] = turns[-1].model_copy(update={"reward": found.reward})
    return episode.model_copy(update={"turns": tuple(turns), "reward": found.reward, "feedback": found.feedback})


def shadow_answers(inbox: Path) -> list[ShadowAnswer]:
    """Every shadow answer once."""
    return list({(one.episode, one.turn, one.candidate): one for one in _records(inbox, SHADOW, ShadowAnswer)}.values())


def withdrawn(inbox: Path) -> dict[str, Withdrawal]:
    """Version → why it was withdrawn."""
    return {one.version: one for one in _records(inbox, WITHDRAWN, Withdrawal)}


def deployed(inbox: Path) -> Iterator[Trajectory]:
    """The episodes that the gateway wrote, with late feedback; forgotten ones and lines of others are passed over."""
    late = late_feedback(inbox)
    for path in sorted(inbox.glob("served-*.jsonl")):
        for line in whole_lines(path):
            if not line.startswith(b'{"forgotten"'):
                try:
                    yield rated_again(parse_line(line, Trajectory), late)
                except LineError:
                    continue  # the round that reads the inbox reports it


def _records(inbox: Path, begin: str, kind: type[R]) -> Iterator[R]:
    for path in sorted((inbox / DEPLOYMENT).glob(f"{begin}*")):
        for line in whole_lines(path):
            try:
                yield parse_line(line, kind)
            except LineError:
                continue  # it was forgotten, or a kill cut it
