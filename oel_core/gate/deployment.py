"""What the deployment shows of a candidate: rewards of sessions that it and the champion answered at the same time.

Both kinds of comparison give one difference an entry, between -1 and 1, whose mean is that of the two versions: which
version answers a session is drawn by a hash, so nothing about the session decides it. The claim that the candidate is
worse by more than the tolerance is tested by betting (`oel_core.gate.evidence`), which may be looked at after every
session and ended at any time.

- Canary sessions are not paired: they and the champion's are put into blocks in the order in which they ended. A block
  ends as soon as it has a session of each version; its entry is the difference of the two mean rewards. So what changes
  with the time of day hits both alike. Champion's sessions from before the first canary do not count.
- Shadow answers are paired: the same request, answered by both. A session is one entry, the mean over its answers.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from oel_core.config.operation import DeploymentConfig
from oel_core.gate.evidence import Values, log_evidence, required
from oel_core.types import Record, Trajectory


class Shown(Record):
    """What sessions of the deployment have shown."""

    use: Literal["canary", "shadow"]
    sessions: int
    """Of the candidate that count: with a score or a thumb (canary), or that the scorer can score (shadow)."""
    champion_sessions: int
    """Of the champion that they are compared with."""
    candidate: float
    """Mean reward, or mean score, of the candidate; 0 without sessions."""
    champion: float
    entries: int
    """Differences that the evidence rests on."""
    difference: float
    """Their mean; 0 without any."""
    evidence: float
    """Natural logarithm of the e-value against: the candidate is worse by the tolerance or more."""
    required: float
    """What it has to reach."""
    problem: str = ""
    """Why nothing can be compared."""

    @property
    def enough(self) -> bool:
        """It is shown that the candidate is not worse by the tolerance."""
        return not self.problem and self.evidence >= self.required


def by_canary(settings: DeploymentConfig, champion: Iterable[Trajectory], candidate: Iterable[Trajectory]) -> Shown:
    """The comparison of sessions that each version answered; those without a score or a thumb do not count."""
    tried = [episode for episode in candidate if rated(episode)]
    since = min((_time(episode) for episode in tried), default=0.0)
    kept = [episode for episode in champion if rated(episode) and _time(episode) >= since] if tried else []
    return _shown(settings, "canary", _blocks(kept, tried), list(map(_reward, kept)), list(map(_reward, tried)))


def by_shadow(settings: DeploymentConfig, scores: Mapping[str, Sequence[tuple[float, float]]]) -> Shown:
    """The comparison of answers to the same requests.

    Args:
        scores: session → (champion's score, candidate's score) of each of its requests, from 0 to 1.
    """
    means = np.array([np.mean(pairs, axis=0) for pairs in scores.values()], dtype=np.float64).reshape(-1, 2)
    return _shown(settings, "shadow", means[:, 1] - means[:, 0], means[:, 0].tolist(), means[:, 1].tolist())


def nothing_shown(settings: DeploymentConfig, use: Literal["canary", "shadow"], problem: str) -> Shown:
    """Where nothing can be compared."""
    return _shown(settings, use, np.array([]), [], []).model_copy(update={"problem": problem})


def rated(episode: Trajectory) -> bool:
    """Whether somebody gave a score or a thumb that counts."""
    given = (one for turn in episode.turns for one in turn.given if not one.superseded)
    return any(one.score is not None or one.thumbs is not None for one in given)


def _blocks(champion: Sequence[Trajectory], candidate: Sequence[Trajectory]) -> Values:
    """One difference a block, shape (blocks,)."""
    sides = [*((one, 0) for one in champion), *((one, 1) for one in candidate)]
    found: list[float] = []
    block: tuple[list[float], list[float]] = ([], [])
    for one, side in sorted(sides, key=lambda entry: (_time(entry[0]), entry[0].id)):
        block[side].append(_reward(one))
        if all(block):
            found.append(float(np.mean(block[1]) - np.mean(block[0])))
            block = ([], [])
    return np.array(found, dtype=np.float64)


def _shown(
    settings: DeploymentConfig,
    use: Literal["canary", "shadow"],
    differences: Values,
    champion: Sequence[float],
    candidate: Sequence[float],
) -> Shown:
    return Shown(
        use=use,
        sessions=len(candidate),
        champion_sessions=len(champion),
        candidate=float(np.mean(candidate)) if len(candidate) else 0.0,
        champion=float(np.mean(champion)) if len(champion) else 0.0,
        entries=len(differences),
        difference=float(differences.mean()) if len(differences) else 0.0,
        evidence=log_evidence(differences + settings.tolerance, settings.tolerance - 1),
        required=required(settings.level),
    )


def _reward(episode: Trajectory) -> float:
    return min(max(episode.reward, 0.0), 1.0)


def _time(episode: Trajectory) -> float:
    return episode.at or 0.0
