"""Scores knowledge in context on validation episodes, which have their own seeds and, with `split_by_layout`, layouts.

Validation is for selection, held-out episodes are for reporting only. All texts of a round use the same episodes, so
their scores are paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from oel_core.config.run import OelConfig
from oel_core.envs.base import Environment, env_spec
from oel_core.errors import ConfigError
from oel_core.evaluation.base import summarise
from oel_core.knowledge.selection_records import Score
from oel_core.policies.base import Policy
from oel_core.rollouts.planning import EpisodePlan, count_layouts, plan_episodes
from oel_core.rollouts.recording import play_into
from oel_core.runs.progress import Progress
from oel_core.seeds import SEEDINGS
from oel_core.types import Knowledge, Split, Trajectory


@dataclass(frozen=True)
class Candidate:
    """A text to score."""

    label: str
    """Name in episode ids; letters, digits and dashes."""
    replica: int
    text: str
    """Empty for the policy without knowledge."""


def candidate(knowledge: Knowledge, after: int | None = None) -> Candidate:
    """A knowledge file as it is, or after a number of episodes, which is part of its label."""
    state = "" if after is None else f"-n{after:04d}"
    return Candidate(f"k{knowledge.replica:02d}{state}", knowledge.replica, knowledge.text)


def validation_plans(config: OelConfig, round_index: int, episodes: int) -> list[EpisodePlan]:
    """The first validation episodes of a round.

    Raises:
        ConfigError: the environment has too few layouts for a validation share, or `environment.seeds` too few seeds.
    """
    by_layout, seeding = config.environment.split_by_layout, SEEDINGS[config.environment.seeds]
    spec = env_spec(config)
    return plan_episodes(
        spec, config.seed, Split.VALIDATION, round_index, 0, episodes, by_layout, seeding, config.runner
    )


def validation_layouts(config: OelConfig, round_index: int, episodes: int) -> int:
    """Number of distinct layouts among them."""
    return count_layouts(env_spec(config), validation_plans(config, round_index, episodes), config.runner)


def require_validation(config: OelConfig) -> None:
    """Raises ConfigError if validation is configured and the environment has no validation episodes."""
    settings = config.knowledge
    wanted = [f"knowledge.selection.use={settings.selection.use}"] if settings.selection.use != "all" else []
    wanted += [f"knowledge.saturation.every={settings.saturation.every}"] if settings.saturation.every else []
    if not wanted:
        return
    try:
        validation_plans(config, 1, 1)
    except ConfigError as error:
        raise ConfigError(
            f"{' and '.join(wanted)}: knowledge is scored on validation episodes, and there are none: {error}; or "
            "set knowledge.selection.use=all and knowledge.saturation.every=null"
        ) from error


def score_texts(
    config: OelConfig,
    policy: Policy,
    candidates: Sequence[Candidate],
    round_index: int,
    episodes: int,
    path: Path,
    on_progress: Progress,
) -> dict[str, Score]:
    """Label → score of every candidate. Equal texts are played once.

    Episodes are appended to `path` as they finish; those already there are not played again.
    """
    plans = validation_plans(config, round_index, episodes)
    player = {candidate.text: candidate for candidate in reversed(candidates)}
    texts: dict[str, str] = {}
    waiting: list[EpisodePlan] = []
    for text, candidate in sorted(player.items(), key=lambda entry: entry[1].label):
        own = [_plan_for(plan, candidate) for plan in plans]
        texts |= {plan.id: text for plan in own}
        waiting += own

    def knowledge(plan: EpisodePlan, environment: Environment) -> str:
        return texts[plan.id]

    played = play_into(path, config, policy, waiting, on_progress, knowledge=knowledge)
    by_text: dict[str, list[Trajectory]] = {}
    for episode in played:
        by_text.setdefault(texts[episode.id], []).append(episode)
    scores = {text: score_of(policy, episodes) for text, episodes in by_text.items()}
    return {candidate.label: scores[candidate.text] for candidate in candidates}


def _plan_for(plan: EpisodePlan, candidate: Candidate) -> EpisodePlan:
    name = f"r{plan.round:02d}-{plan.split.value}-{candidate.label}-e{plan.index:04d}"
    return replace(plan, id=name, replica=candidate.replica)


def score_of(policy: Policy, episodes: Sequence[Trajectory]) -> Score:
    """The score of one text, from its episodes."""
    report = summarise("validation", policy.name, episodes)
    return Score(**report.model_dump(include=set(Score.model_fields)))
