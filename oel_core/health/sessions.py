"""A deployment's recorded sessions: when, by which version, what was asked, and what people thought of the answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oel_core.cases.known import verdict
from oel_core.cases.similarity import user_text
from oel_core.projects.inbox import recorded


@dataclass(frozen=True)
class Session:
    """One recorded session with a time."""

    at: float
    """Of its last call, seconds since 1970."""
    version: str
    """What gave the last answer, as `oel serve` names it: project, version in the registry, digest of the weights."""
    asked: str
    """Everything that its user said."""
    right: bool | None
    """Whether people called all rated answers right; None where nobody rated any."""


def sessions(inbox: Path) -> list[Session]:
    """The sessions of an inbox in order of time. Lines that are no episode, or have no time, are left out."""
    found = []
    for episode in recorded(inbox):
        if episode.at is not None:
            thought = verdict([one for turn in episode.turns for one in turn.given if not one.superseded])
            right = None if thought is None else thought >= 1.0
            found.append(Session(episode.at, episode.policy, user_text(episode), right))
    return sorted(found, key=lambda one: one.at)


def of_version(found: Sequence[Session], project: str, label: str) -> list[Session]:
    """The sessions that one registered version answered; `label` is its number, or `base` for the preset's model."""
    return [one for one in found if one.version.startswith(f"{project}-{label}-")]
