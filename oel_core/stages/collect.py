"""Collect: the start policy plays episodes without knowledge, for extraction and for distillation.

Every episode is one line of `trajectories.jsonl`, flushed when it ends. After a kill, an incomplete batch of episodes
is played again as a whole, and episodes already on the disk are not written twice.
"""

from collections.abc import Sequence
from pathlib import Path

from oel_core.config.run import OelConfig
from oel_core.envs import playable
from oel_core.envs.base import env_spec
from oel_core.errors import ConfigError
from oel_core.projects.inbox import INBOX, SOURCES, Received, assign_episodes
from oel_core.rollouts.playing import EpisodePlan, plan_episodes
from oel_core.rollouts.recording import play_into
from oel_core.rounds.context import DEFAULT_CONTEXT, TRAJECTORIES, StageContext
from oel_core.rounds.round import Round
from oel_core.runs.files import write_atomic
from oel_core.runs.jsonl import jsonl_bytes, read_jsonl
from oel_core.runs.manifest import Manifest, digest_file
from oel_core.runs.round_start import read_start
from oel_core.seeds import SEEDINGS
from oel_core.types import Split, Trajectory

SECTIONS = ("seed", "model", "environment", "play", "collect", "distill.steps", "distill.episodes_per_step")
INBOX_SECTIONS = (
    "experience.extract_share",
    "experience.rated_weight",
    "experience.distill_sessions",
    "experience.distill_turns",
)


def collect(round: Round, context: StageContext = DEFAULT_CONTEXT) -> Manifest:
    """Plays K·N episodes for extraction and T·(episodes a step) for consolidation, or takes them from the inbox.

    Raises:
        ConfigError: the environment is not registered, its options are wrong, or it cannot be played.
        PolicyError: the model cannot be loaded.
        ArtifactError: the stage was made with other settings or another policy.
    """
    inputs = {"policy": round.start_digest()}
    start = read_start(round.run, round.number)
    if start is not None and start.inbox_episodes is not None:
        inputs |= {"inbox": digest_file(round.path / INBOX)}
        sections = (*SECTIONS, *INBOX_SECTIONS)
        return round.perform("collect", sections, inputs, lambda folder: _counts(_take_inbox(round, folder)))

    if not playable(round.config.environment.name):
        raise ConfigError(
            f"environment '{round.config.environment.name}' cannot be played: set experience.inbox, and begin rounds "
            "with `oel trigger next-round`"
        )

    def work(folder: Path) -> dict[str, float]:
        plans = extraction_plans(round.config, round.number) + consolidation_plans(round.config, round.number)
        policy = round.start_policy(context)
        return _counts(play_into(folder / TRAJECTORIES, round.config, policy, plans, context.on_progress))

    return round.perform("collect", SECTIONS, inputs, work)


def extraction_plans(config: OelConfig, round_index: int) -> list[EpisodePlan]:
    """The episodes for extraction, replica by replica."""
    return [
        plan
        for replica in range(config.collect.replicas)
        for plan in _plans(config, Split.EXTRACT, round_index, replica, config.collect.extraction_episodes)
    ]


def consolidation_plans(config: OelConfig, round_index: int) -> list[EpisodePlan]:
    """The episodes whose prompts are used in distillation, step by step."""
    count = config.distill.steps * config.distill.episodes_per_step
    return _plans(config, Split.DISTILL, round_index, 0, count)


def _plans(config: OelConfig, split: Split, round_index: int, replica: int, count: int) -> list[EpisodePlan]:
    by_layout, seeding = config.environment.split_by_layout, SEEDINGS[config.environment.seeds]
    spec = env_spec(config)
    return plan_episodes(spec, config.seed, split, round_index, replica, count, by_layout, seeding, config.runner)


def _take_inbox(round: Round, folder: Path) -> list[Trajectory]:
    """Copies the episodes of the round's inbox instead of playing."""
    dealt = assign_episodes(round.config, list(read_jsonl(round.path / INBOX, Received)), round.number)
    write_atomic(folder / SOURCES, jsonl_bytes(source for _, source in dealt))
    write_atomic(folder / TRAJECTORIES, jsonl_bytes(episode for episode, _ in dealt))
    return [episode for episode, _ in dealt]


def _counts(episodes: Sequence[Trajectory]) -> dict[str, float]:
    turns = [turn for episode in episodes for turn in episode.turns]
    return {
        "episodes": len(episodes),
        "passed": sum(episode.passed for episode in episodes),
        "errors": sum(episode.error is not None for episode in episodes),
        "turns": len(turns),
        "invalid_actions": sum(turn.action is None for turn in turns),
        "prompt_tokens": sum(turn.prompt_tokens for turn in turns),
        "response_tokens": sum(len(turn.response_ids) for turn in turns),
    }
