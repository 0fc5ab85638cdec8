"""Kinds of lost episodes."""

from collections import Counter
from collections.abc import Iterable, Mapping

from oel_core.types import StopReason, Trajectory

ERROR = "technical failure"
CUT = "last response cut at the token cap"
INVALID = "invalid last action"
LIMIT = "turn limit"
LIMIT_INVALID = "turn limit, with invalid actions on the way"
PARTIAL = "ended by the game with a partial reward"
ZERO = "ended by the game without a reward"
KINDS = (ZERO, PARTIAL, LIMIT, LIMIT_INVALID, INVALID, CUT, ERROR)
"""In the order in which they are shown."""


def failure(episode: Trajectory) -> str | None:
    """The kind in `KINDS` of a lost episode, by its most direct cause; None for a passed one."""
    if episode.error is not None:
        return ERROR
    if episode.passed:
        return None
    last = episode.turns[-1] if episode.turns else None
    if last is not None and last.stop_reason is StopReason.LENGTH and last.action is None:
        return CUT
    if episode.truncated:
        return LIMIT_INVALID if any(turn.action is None for turn in episode.turns) else LIMIT
    if last is not None and last.action is None:
        return INVALID
    return PARTIAL if episode.reward > 0 else ZERO


def failures(episodes: Iterable[Trajectory]) -> Mapping[str, int]:
    """Kind → number of lost episodes; only kinds that occurred."""
    found = Counter(kind for episode in episodes if (kind := failure(episode)) is not None)
    return {kind: found[kind] for kind in KINDS if found[kind]}
