"""Playing episodes: which ones (`plan_episodes`), and the playing itself (`play_episodes`).

Episodes are played in fixed groups of `policy.batch_size` in plan order; within a group one batch of prompts is
answered per turn. A group is a function of its plans, the policy and the seed alone, so a killed stage that plays a
group again gets the same episodes.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from oel_core import envs
from oel_core.config import PlayConfig
from oel_core.envs.base import Environment, EnvSpec
from oel_core.errors import ConfigError, PromptTooLongError
from oel_core.manifest import digest_bytes
from oel_core.planning import EpisodePlan, count_layouts, plan_episodes
from oel_core.policies.base import Completion, Policy, Request
from oel_core.prompts import play as prompts
from oel_core.seeds import derive_seed
from oel_core.types import Message, Trajectory, Turn

__all__ = [
    "EpisodePlan",
    "KnowledgeFor",
    "count_layouts",
    "groups",
    "plan_episodes",
    "play_episodes",
    "unfinished",
]

KnowledgeFor = Callable[[EpisodePlan, Environment], str]
"""The knowledge text that an episode's prompts carry; an empty string is none."""


def prompt_digest(ids: Sequence[int]) -> str:
    """`digest_bytes` over token ids written in decimal with single spaces between them."""
    return digest_bytes(" ".join(map(str, ids)).encode())


def groups(plans: Sequence[EpisodePlan], size: int) -> list[Sequence[EpisodePlan]]:
    """The fixed groups that are played together, in plan order."""
    return [plans[start : start + size] for start in range(0, len(plans), size)]


def unfinished(plans: Sequence[EpisodePlan], done: set[str], policy: Policy) -> list[EpisodePlan]:
    """Plans to play so that all are done: whole groups where the policy then gives the same bytes again."""
    if not policy.reproducible:
        return [plan for plan in plans if plan.id not in done]
    waiting = [group for group in groups(plans, policy.batch_size) if any(plan.id not in done for plan in group)]
    return [plan for group in waiting for plan in group]


@dataclass
class _Episode:
    """One episode under way."""

    plan: EpisodePlan
    spec: EnvSpec
    environment: Environment | None = None
    knowledge: str = ""
    messages: tuple[Message, ...] = ()
    """The next student prompt."""
    turns: list[Turn] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False
    feedback: str = ""
    error: str | None = None

    @property
    def ended(self) -> bool:
        return self.terminated or self.truncated or self.error is not None

    def open(self, knowledge: KnowledgeFor | None) -> None:
        """Makes the environment and the first prompt."""
        try:
            self.environment = envs.make_env(self.spec, self.plan.seed)
            observation = self.environment.start()
        except Exception as error:
            self.fail(error)
            return
        self.messages = prompts.first_messages(self.environment.intro, observation)
        if knowledge is not None:
            self.knowledge = knowledge(self.plan, self.environment)

    def request(self, seed: int) -> Request:
        """What the policy reads this turn: the only place where knowledge meets a prompt."""
        shown = prompts.with_knowledge(self.messages, self.knowledge)
        return Request(messages=shown, seed=derive_seed(seed, self.plan.id, len(self.turns)))

    def answer(self, completion: Completion, generation_s: float, history_turns: int | None) -> None:
        """Plays the response and ends the episode where the game or the turn limit says so."""
        assert self.environment is not None
        started = time.perf_counter()
        try:
            action = self.environment.parse(completion.text)
            step = self.environment.step(action)
        except Exception as error:
            self.fail(error)
            return
        turn = Turn(
            messages=self.messages,
            prompt_ids_digest=prompt_digest(completion.prompt_ids),
            prompt_tokens=len(completion.prompt_ids),
            response=completion.text,
            response_ids=completion.response_ids,
            stop_reason=completion.stop_reason,
            action=action,
            observation=step.observation,
            reward=step.reward,
            wall_s=generation_s + time.perf_counter() - started,
        )
        self.turns.append(turn)
        self.messages = prompts.next_messages(
            self.messages, completion.text, step.observation, history_turns=history_turns
        )
        if step.terminated or len(self.turns) == self.spec.max_turns:
            self._end(terminated=step.terminated)

    def _end(self, *, terminated: bool) -> None:
        assert self.environment is not None
        try:
            self.feedback = self.environment.feedback(truncated=not terminated)
        except Exception as error:
            self.fail(error)
            return
        self.terminated, self.truncated = terminated, not terminated

    def fail(self, error: Exception) -> None:
        """Makes a failure of this episode data. What is wrong for every episode alike is raised instead."""
        if isinstance(error, (ConfigError, MemoryError)):
            raise error
        self.error = f"{type(error).__name__}: {error}"

    def close(self) -> None:
        """Frees the environment; an episode that cannot even close has already said what there was to say."""
        environment, self.environment = self.environment, None
        if environment is not None:
            environment.close()

    def trajectory(self, policy: str, intro: str) -> Trajectory:
        """The record. A failed episode is not passed, whatever reward it had."""
        reward = self.turns[-1].reward if self.turns and self.error is None else 0.0
        return Trajectory(
            **self.plan.coordinates(),
            env=self.spec.name,
            policy=policy,
            knowledge_digest=digest_bytes(self.knowledge.encode()) if self.knowledge else None,
            intro=intro,
            turns=tuple(self.turns),
            terminated=self.terminated,
            truncated=self.truncated,
            reward=reward,
            feedback=self.feedback,
            error=self.error,
        )


def _finish(episode: _Episode, policy: Policy) -> Trajectory:
    intro = episode.environment.intro if episode.environment is not None else ""
    try:
        episode.close()
    except Exception as error:
        episode.terminated = episode.truncated = False
        episode.fail(error)
    return episode.trajectory(policy.name, intro)


def _play_turn(policy: Policy, live: Sequence[_Episode], play: PlayConfig, seed: int) -> None:
    """One turn of every live episode, in one batch. Those whose prompt does not fit fail; the others are answered."""
    started = time.perf_counter()
    try:
        completions = policy.generate([episode.request(seed) for episode in live], play.sampling.build())
    except PromptTooLongError as error:
        for position, problem in error.problems.items():
            live[position].fail(PromptTooLongError({position: problem}))
        fitting = [episode for episode in live if not episode.ended]
        if fitting:
            _play_turn(policy, fitting, play, seed)
        return
    share = (time.perf_counter() - started) / len(live)
    for episode, completion in zip(live, completions, strict=True):
        episode.answer(completion, share, play.history_turns)


def _play_group(
    policy: Policy, episodes: Sequence[_Episode], play: PlayConfig, knowledge: KnowledgeFor | None, seed: int
) -> Iterator[Trajectory]:
    try:
        for episode in episodes:
            episode.open(knowledge)
        live = list(episodes)
        while live:
            yield from (_finish(episode, policy) for episode in live if episode.ended)
            live = [episode for episode in live if not episode.ended]
            if live:
                _play_turn(policy, live, play, seed)
    finally:
        for episode in episodes:
            episode.close()


def play_episodes(
    policy: Policy,
    spec: EnvSpec,
    plans: Sequence[EpisodePlan],
    play: PlayConfig,
    *,
    knowledge: KnowledgeFor | None = None,
    seed: int,
) -> Iterator[Trajectory]:
    """Plays the planned episodes and yields each as it finishes, in an order that is the same every time.

    Knowledge reaches the policy's prompts only: what is recorded is the student's prompt. A turn's response is drawn
    by `derive_seed(seed, plan.id, turn)`. An environment that raises, and a prompt that does not fit, end that
    episode alone: its `error` says why.

    Raises:
        ConfigError: the environment or its options are wrong.
        PolicyError: the policy cannot generate at all.
    """
    for group in groups(plans, policy.batch_size):
        yield from _play_group(policy, [_Episode(plan, spec) for plan in group], play, knowledge, seed)
