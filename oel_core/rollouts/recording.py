"""Plays a stage's episodes into a JSONL file, so that a kill loses no finished episode."""

import os
from collections.abc import Sequence
from pathlib import Path

from oel_core.config.run import OelConfig
from oel_core.envs import prepare_envs
from oel_core.envs.base import env_spec
from oel_core.policies.base import Policy
from oel_core.policies.replicated.policy import ReplicatedPolicy
from oel_core.rollouts.playing import EpisodePlan, KnowledgeFor, play_episodes, unfinished
from oel_core.runs.jsonl import JsonlWriter, recover_jsonl
from oel_core.runs.progress import Progress
from oel_core.types import Trajectory


def play_into(
    path: Path,
    config: OelConfig,
    policy: Policy,
    plans: Sequence[EpisodePlan],
    on_progress: Progress,
    *,
    knowledge: KnowledgeFor | None = None,
) -> list[Trajectory]:
    """All planned episodes in the order in which they finished; episodes already in `path` are not played again.

    Episodes of one group are repeated together, so that a resumed stage gets the same episodes as an uninterrupted one.

    Raises:
        ArtifactError: `path` is corrupt before its last line.
        ConfigError, PolicyError: as `play_episodes`.
    """
    episodes = recover_jsonl(path, Trajectory)
    done = {episode.id for episode in episodes}
    waiting = unfinished(plans, done, policy)
    if not isinstance(policy, ReplicatedPolicy):  # whose workers make their own
        prepare_envs(env_spec(config), [plan.seed for plan in waiting], os.cpu_count() or 1)
    on_progress(len(episodes), len(plans))
    spec, injection = env_spec(config), config.knowledge.injection
    with JsonlWriter(path) as writer:
        played = play_episodes(
            policy, spec, waiting, config.play, knowledge=knowledge, seed=config.seed, injection=injection
        )
        for episode in played:
            if episode.id not in done:
                writer.append(episode)
                episodes.append(episode)
                on_progress(len(episodes), len(plans))
    return episodes
