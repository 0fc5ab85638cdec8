"""The gate's last condition, on sessions of the deployment: what `oel serve` recorded of champion and candidate."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from oel_core.cases.case import Case
from oel_core.cases.known import cases_of
from oel_core.cases.scorers.agreement import agreement
from oel_core.cases.scorers.base import Scorer
from oel_core.cases.suite import NO_SCORER, scorer_of
from oel_core.config.run import OelConfig
from oel_core.evaluation.questions import visible
from oel_core.gate.deployment import Shown, by_canary, by_shadow, nothing_shown, rated
from oel_core.gate.promotion import Check, Verdict
from oel_core.models.checkpoints import model_digest
from oel_core.projects.deployment import ShadowAnswer, Withdrawal, deployed, shadow_answers, withdrawn
from oel_core.rounds.round import Round
from oel_core.types import Record, Trajectory

CONDITION = "deployment"
DIGITS = 12
"""Of a version's digest in its name."""


def version_name(project: str, label: str, path: str) -> str:
    """What answers say of themselves: project, version in the registry (`base` before the first one), weights' digest.

    Raises:
        ArtifactError, PolicyError: as `model_digest`.
    """
    return f"{project}-{label}-{model_digest(path)[:DIGITS]}"


class Deployed(Record):
    """What the gateway recorded of one version."""

    version: str
    sessions: int
    rated: int
    """Sessions with a score or a thumb that counts."""
    reward: float | None
    """Their mean reward; None without any."""
    shadow_answers: int
    withdrawn: str = ""
    """Why it gets no traffic as a candidate any more; empty where it was not withdrawn."""


def by_version(inbox: Path) -> list[Deployed]:
    """Every version that answered, or would have, in the order of their first sessions."""
    episodes: dict[str, list[Trajectory]] = {}
    for episode in deployed(inbox):
        episodes.setdefault(episode.policy, []).append(episode)
    shadows = Counter(one.candidate for one in shadow_answers(inbox))
    stopped = withdrawn(inbox)
    return [
        _deployed(version, episodes.get(version, []), shadows[version], stopped.get(version))
        for version in {**episodes, **shadows, **stopped}
    ]


def _deployed(version: str, episodes: Sequence[Trajectory], shadows: int, stopped: Withdrawal | None) -> Deployed:
    rewards = [episode.reward for episode in episodes if rated(episode)]
    return Deployed(
        version=version,
        sessions=len(episodes),
        rated=len(rewards),
        reward=fmean(rewards) if rewards else None,
        shadow_answers=shadows,
        withdrawn=stopped.reason if stopped else "",
    )


def with_deployment(candidate: Round, champion: int, verdict: Verdict) -> Verdict:
    """The verdict with what sessions of the deployment show by now, if the gate asks for them.

    Raises:
        ArtifactError, ConfigError, PolicyError: a model or a scorer cannot be used.
    """
    settings = candidate.config.gate.deployment
    if settings.use == "off":
        return verdict
    found = _shown(candidate, champion)
    bound = found.problem or (
        f"log10 of the evidence at least {found.required / math.log(10):.2f} that the mean reward is less than "
        f"{settings.tolerance:g} below the champion's ({found.sessions} sessions of the candidate: "
        f"{found.candidate:.3f}, {found.champion_sessions} of the champion: {found.champion:.3f})"
    )
    check = Check(name=CONDITION, passed=found.enough, value=found.evidence / math.log(10), bound=bound)
    checks = (*verdict.checks, check)
    return verdict.model_copy(
        update={"checks": checks, "promote": all(one.passed for one in checks), "deployment": found}
    )


def _shown(candidate: Round, champion: int) -> Shown:
    settings, inbox = candidate.config.gate.deployment, candidate.config.experience.inbox
    assert settings.use != "off"
    if inbox is None:
        return nothing_shown(settings, settings.use, "experience.inbox is null: no session of a deployment is recorded")
    ours, theirs = (f"-{model_digest(round.model())[:DIGITS]}" for round in (candidate, candidate.at(champion)))
    episodes = list(deployed(Path(inbox)))
    old = [episode for episode in episodes if episode.policy.endswith(theirs)]
    if settings.use == "canary":
        return by_canary(settings, old, (episode for episode in episodes if episode.policy.endswith(ours)))
    answers = [one for one in shadow_answers(Path(inbox)) if one.candidate.endswith(ours)]
    return _by_shadow(candidate.config, {episode.id: episode for episode in old}, answers)


def _by_shadow(config: OelConfig, episodes: Mapping[str, Trajectory], answers: Iterable[ShadowAnswer]) -> Shown:
    settings, scorer = config.gate.deployment, scorer_of(config.evaluate.cases)
    if scorer is None:
        return nothing_shown(settings, "shadow", NO_SCORER)
    if scorer.is_judge:
        cases = [case for episode in episodes.values() for case in _cases(episode)]
        problem = agreement(scorer, cases).problem(config.evaluate.cases)
        if problem:
            return nothing_shown(settings, "shadow", problem)
    scores: dict[str, list[tuple[float, float]]] = {}
    for one in answers:
        episode = episodes.get(one.episode)
        if episode is None or one.turn >= len(episode.turns):
            continue
        case = _unselected(_cases(episode)[one.turn])
        if scorer.scores(case):
            pair = (_score(scorer, case, case.recorded), _score(scorer, case, one.response))
            scores.setdefault(episode.session or episode.id, []).append(pair)
    return by_shadow(settings, scores)


def _cases(episode: Trajectory) -> list[Case]:
    return cases_of(episode, episode.session or episode.id, "held_out", max(1, episode.round))


def _unselected(case: Case) -> Case:
    """Without answers that are known because the champion's was wrong, or right: they favour one side."""
    return case.model_copy(update={"answers": tuple(one for one in case.answers if one.kind == "expected")})


def _score(scorer: Scorer, case: Case, answer: str) -> float:
    return min(max(scorer.score(case, visible(answer)).reward, 0.0), 1.0)
