"""Playing episodes: which ones (`plan_episodes`), and the playing itself (`play_episodes`).

With a policy that answers in batches, episodes are played in fixed groups of `policy.batch_size` in plan order; within
a group one batch of prompts is answered per turn. A group is a function of its plans, the policy and the seed alone, so
a killed stage that plays a group again gets the same episodes; what a policy keeps of earlier turns it keeps within a
group (`SessionPolicy`). With a streaming policy `policy.batch_size` episodes are
in flight: an episode that ends is replaced by the next one, without waiting for the slowest of a turn. A replicated
policy plays the same groups, several at a time, each with its environments in one worker.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from oel_core.config.knowledge import InjectionConfig
from oel_core.config.run import PlayConfig
from oel_core.envs.base import EnvSpec
from oel_core.errors import PromptTooLongError
from oel_core.policies.answers import answer_batch
from oel_core.policies.base import Generates, Policy, SessionPolicy, StreamingPolicy
from oel_core.policies.completions import Completed, PendingCompletions
from oel_core.policies.replicated.policy import ReplicatedPolicy
from oel_core.prompts.injection import GLOBAL
from oel_core.rollouts.episode import Episode, KnowledgeFor, prompt_digest
from oel_core.rollouts.planning import EpisodePlan, count_layouts, plan_episodes
from oel_core.types import Trajectory

__all__ = [
    "EpisodePlan",
    "KnowledgeFor",
    "count_layouts",
    "groups",
    "plan_episodes",
    "play_episodes",
    "prompt_digest",
    "unfinished",
]


def groups(plans: Sequence[EpisodePlan], size: int) -> list[Sequence[EpisodePlan]]:
    """The fixed groups that are played together, in plan order."""
    return [plans[start : start + size] for start in range(0, len(plans), size)]


def unfinished(plans: Sequence[EpisodePlan], done: set[str], policy: Policy) -> list[EpisodePlan]:
    """The plans that remain to be played: whole groups if the policy then reproduces the same bytes."""
    if not policy.reproducible:
        return [plan for plan in plans if plan.id not in done]
    waiting = [group for group in groups(plans, policy.batch_size) if any(plan.id not in done for plan in group)]
    return [plan for group in waiting for plan in group]


def _finish(episode: Episode, policy: Policy) -> Trajectory:
    intro = episode.environment.intro if episode.environment is not None else ""
    try:
        episode.close()
    except Exception as error:
        episode.terminated = episode.truncated = False
        episode.fail(error)
    return episode.trajectory(policy.name, intro)


def _play_turn(policy: Generates, live: Sequence[Episode], play: PlayConfig, seed: int) -> None:
    """One turn of every unfinished episode, in one batch. Episodes whose prompt does not fit fail; the others go on."""
    answered = answer_batch(policy, [episode.request(seed) for episode in live], play.sampling)
    for episode, completed in zip(live, answered, strict=True):
        _take(episode, completed, play)


def _take(episode: Episode, completed: Completed[Any], play: PlayConfig) -> None:
    if isinstance(completed.answer, PromptTooLongError):
        episode.fail(completed.answer)
    else:
        episode.answer(completed.answer, completed.seconds, play.history_turns)


def _play_group(
    policy: Policy, episodes: Sequence[Episode], play: PlayConfig, knowledge: KnowledgeFor | None, seed: int
) -> Iterator[Trajectory]:
    try:
        for episode in episodes:
            episode.open(knowledge)
        live = list(episodes)
        answering = policy.session() if isinstance(policy, SessionPolicy) else policy
        while live:
            yield from (_finish(episode, policy) for episode in live if episode.ended)
            live = [episode for episode in live if not episode.ended]
            if live:
                _play_turn(answering, live, play, seed)
    finally:
        for episode in episodes:
            episode.close()


def _play_next_completion(pending: PendingCompletions[Episode], play: PlayConfig) -> Episode:
    """Waits for the next completion, plays it in its episode, and returns that episode."""
    completed = pending.next_completed()
    _take(completed.item, completed, play)
    return completed.item


def _stream(
    policy: StreamingPolicy, episodes: Sequence[Episode], play: PlayConfig, knowledge: KnowledgeFor | None, seed: int
) -> Iterator[Trajectory]:
    pending = PendingCompletions[Episode](policy, play.sampling)
    upcoming, playing = list(reversed(episodes)), dict[str, Episode]()
    try:
        while upcoming or len(pending):
            if upcoming and pending.has_room:
                episode = upcoming.pop()
                playing[episode.plan.id] = episode
                episode.open(knowledge)
            else:
                episode = _play_next_completion(pending, play)
            if episode.ended:
                yield _finish(playing.pop(episode.plan.id), policy)
            else:
                pending.submit(episode, episode.request(seed))
    finally:
        pending.cancel()
        for episode in playing.values():
            episode.close()


def play_episodes(
    policy: Policy,
    spec: EnvSpec,
    plans: Sequence[EpisodePlan],
    play: PlayConfig,
    *,
    knowledge: KnowledgeFor | None = None,
    seed: int,
    injection: InjectionConfig = GLOBAL,
) -> Iterator[Trajectory]:
    """Plays the planned episodes and yields each as it finishes.

    The order is the same every time unless the policy is a `StreamingPolicy`: then it is the order they end in, which
    has no effect, because ids, seeds and records of an episode depend on its plan alone.

    Knowledge reaches the policy's prompts only, the way `injection` says: what is recorded is the student's prompt. A
    turn's response is drawn by `derive_seed(seed, plan.id, turn)`. An environment that raises, and a prompt that does
    not fit, end that episode alone: its `error` says why.

    Raises:
        ConfigError: the environment or its options are wrong.
        PolicyError: the policy cannot generate at all.
    """
    if isinstance(policy, ReplicatedPolicy):

        def played(copy: Policy, group: Sequence[EpisodePlan]) -> list[Trajectory]:
            return list(play_episodes(copy, spec, group, play, knowledge=knowledge, seed=seed, injection=injection))

        for episodes in policy.map(played, groups(plans, policy.batch_size)):
            yield from episodes
        return
    if isinstance(policy, StreamingPolicy):
        yield from _stream(policy, [Episode(plan, spec, injection) for plan in plans], play, knowledge, seed)
        return
    for group in groups(plans, policy.batch_size):
        yield from _play_group(policy, [Episode(plan, spec, injection) for plan in group], play, knowledge, seed)
