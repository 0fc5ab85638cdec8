"""Collect: a round's start policy plays without knowledge, for extraction and for consolidation.

Every episode is one line of `trajectories.jsonl`, on the disk as soon as it is over. After a kill, groups of
episodes that were played together are played together again, and episodes already on the disk are not written twice.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from oel_core.artifacts import RunFolder, stage_key
from oel_core.config import OelConfig
from oel_core.envs import prepare_envs
from oel_core.jsonl import JsonlWriter, recover_jsonl
from oel_core.manifest import Manifest
from oel_core.policies import load_policy
from oel_core.policies.base import Policy
from oel_core.rollout import EpisodePlan, plan_episodes, play_episodes, unfinished
from oel_core.seeds import SEEDINGS
from oel_core.stages.common import (
    TRAJECTORIES,
    LoadPolicy,
    Progress,
    digest_after,
    env_spec,
    model_after,
    silent,
)
from oel_core.types import Split, Trajectory

SECTIONS = ("seed", "model", "environment", "play", "collect", "distill.steps", "distill.episodes_per_step")


def collect(
    config: OelConfig,
    run: RunFolder,
    round_index: int,
    *,
    load: LoadPolicy = load_policy,
    on_progress: Progress = silent,
) -> Manifest:
    """Plays K·N episodes for extraction and T·(episodes a step) for consolidation.

    Raises:
        ConfigError: the environment is not registered or its options are wrong.
        PolicyError: the model cannot be loaded.
        ArtifactError: the stage was made with other settings or another policy.
    """
    key = stage_key(config, round_index, "collect", SECTIONS, {"policy": digest_after(config, run, round_index - 1)})

    def work(folder: Path) -> dict[str, float]:
        plans = extraction_plans(config, round_index) + consolidation_plans(config, round_index)
        prepare_envs(env_spec(config), [plan.seed for plan in plans], os.cpu_count() or 1)
        policy = load(model_after(config, run, round_index - 1), config.model)
        return _counts(_play(config, policy, plans, folder / TRAJECTORIES, on_progress))

    return run.perform(key, work)


def extraction_plans(config: OelConfig, round_index: int) -> list[EpisodePlan]:
    """The episodes that replicas read, replica by replica."""
    return [
        plan
        for replica in range(config.collect.replicas)
        for plan in _plans(config, Split.EXTRACT, round_index, replica, config.collect.extraction_episodes)
    ]


def consolidation_plans(config: OelConfig, round_index: int) -> list[EpisodePlan]:
    """The episodes whose prompts are distilled, step by step."""
    count = config.distill.steps * config.distill.episodes_per_step
    return _plans(config, Split.DISTILL, round_index, 0, count)


def _plans(config: OelConfig, split: Split, round_index: int, replica: int, count: int) -> list[EpisodePlan]:
    by_layout, seeding = config.environment.split_by_layout, SEEDINGS[config.environment.seeds]
    spec = env_spec(config)
    return plan_episodes(spec, config.seed, split, round_index, replica, count, by_layout, seeding)


def _play(
    config: OelConfig, policy: Policy, plans: Sequence[EpisodePlan], path: Path, on_progress: Progress
) -> list[Trajectory]:
    episodes = recover_jsonl(path, Trajectory)
    done = {episode.id for episode in episodes}
    waiting = unfinished(plans, done, policy)
    on_progress(len(episodes), len(plans))
    with JsonlWriter(path) as writer:
        for episode in play_episodes(policy, env_spec(config), waiting, config.play, seed=config.seed):
            if episode.id not in done:
                writer.append(episode)
                episodes.append(episode)
                on_progress(len(episodes), len(plans))
    return episodes


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
