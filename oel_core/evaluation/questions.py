"""Suites of single questions: one prompt, one answer, one score. Each is recorded as an episode of one turn."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from oel_core.config import ModelConfig
from oel_core.errors import ArtifactError, PromptTooLongError
from oel_core.evaluation.base import OnEpisode, Suite
from oel_core.planning import EpisodePlan
from oel_core.policies.base import Completion, Policy, Request, Sampling
from oel_core.rollout import groups, prompt_digest, unfinished
from oel_core.types import Message, Split, Trajectory, Turn

THINKING_ENDS = "</think>"
Item = TypeVar("Item")


@dataclass(frozen=True)
class Question:
    """One prompt of a suite."""

    id: str
    """What its episode is called."""
    messages: tuple[Message, ...]
    number: int
    """The question's own number in its data; stands where an episode has its environment seed."""
    seed: int
    """Of the answer's draw."""


@dataclass(frozen=True)
class Score:
    """What one answer is worth."""

    reward: float
    """1.0 is a pass."""
    feedback: str
    """Why, for whoever reads the episode."""


class QuestionSuite(Suite, Protocol):
    """A suite of single questions, which says itself whether the model may think aloud before it answers."""

    @property
    def thinking(self) -> bool:
        """Replaces `model.thinking` while the suite runs."""
        ...


def model_settings(suite: Suite, model: ModelConfig) -> ModelConfig:
    """How the model is loaded for a suite: game suites play as the run does, question suites choose thinking."""
    thinking = getattr(suite, "thinking", model.thinking)
    return model if thinking == model.thinking else model.model_copy(update={"thinking": thinking})


def visible(response: str) -> str:
    """An answer without the thinking before it. Thinking that never ended leaves nothing."""
    before, ended, after = response.rpartition(THINKING_ENDS)
    if ended:
        return after.lstrip()
    return "" if before or response.lstrip().startswith("<think>") else response


def pick(items: Sequence[Item], count: int | None, order: Callable[[Item], object]) -> list[Item]:
    """`count` items spread over all of them: those whose `order` is smallest, in their old order (None: all).

    A larger subset holds the smaller one.
    """
    if count is None or count >= len(items):
        return list(items)
    chosen = sorted(range(len(items)), key=lambda at: (str(order(items[at])), at))[:count]
    return [items[at] for at in sorted(chosen)]


@dataclass(frozen=True)
class Asking:
    """The questions of one suite and how they are answered."""

    env: str
    """What the episodes give as their environment."""
    questions: tuple[Question, ...]
    sampling: Sampling
    score: Callable[[int, str], Score]
    """(position of the question, answer without thinking) → its score."""

    def run(self, policy: Policy, done: Sequence[Trajectory], on_episode: OnEpisode) -> list[Trajectory]:
        """One episode a question, in their order; those in `done` are not asked or handed over again.

        Raises:
            ArtifactError: `done` holds answers to other questions.
            PolicyError: the policy cannot generate at all.
        """
        plans = self._plans()
        self._check(done)
        found = {episode.id: episode for episode in done}
        for group in groups(unfinished(plans, set(found), policy), policy.batch_size):
            for episode in self._ask(policy, group):
                if episode.id not in found:
                    found[episode.id] = episode
                    on_episode(episode)
        return [found[plan.id] for plan in plans]

    def _plans(self) -> list[EpisodePlan]:
        return [
            EpisodePlan(question.id, question.number, Split.HELD_OUT, 0, 0, index)
            for index, question in enumerate(self.questions)
        ]

    def _check(self, done: Sequence[Trajectory]) -> None:
        asked = {(question.id, question.number) for question in self.questions}
        for episode in done:
            if (episode.id, episode.seed) not in asked or episode.env != self.env:
                raise ArtifactError(
                    f"episode {episode.id} (seed {episode.seed}, {episode.env}) is none of this suite's: it answers "
                    "another suite's question or another subset. Remove its file to evaluate again"
                )

    def _ask(self, policy: Policy, group: Sequence[EpisodePlan]) -> Iterator[Trajectory]:
        """Answers of one batch. Questions that do not fit the model fail; the others are answered."""
        requests = [Request(self.questions[plan.index].messages, self.questions[plan.index].seed) for plan in group]
        started = time.perf_counter()
        try:
            completions = policy.generate(requests, self.sampling)
        except PromptTooLongError as error:
            for at, plan in enumerate(group):
                if at in error.problems:
                    yield self._episode(policy, plan, (), 0.0, "", f"PromptTooLongError: {error.problems[at]}")
            fitting = [plan for at, plan in enumerate(group) if at not in error.problems]
            if fitting:
                yield from self._ask(policy, fitting)
            return
        share = (time.perf_counter() - started) / len(group)
        for plan, completion in zip(group, completions, strict=True):
            score = self.score(plan.index, visible(completion.text))
            turn = self._turn(plan, completion, score, share)
            yield self._episode(policy, plan, (turn,), score.reward, score.feedback, None)

    def _turn(self, plan: EpisodePlan, completion: Completion, score: Score, wall_s: float) -> Turn:
        return Turn(
            messages=self.questions[plan.index].messages,
            prompt_ids_digest=prompt_digest(completion.prompt_ids),
            prompt_tokens=len(completion.prompt_ids),
            response=completion.text,
            response_ids=completion.response_ids,
            stop_reason=completion.stop_reason,
            action="answer" if visible(completion.text).strip() else None,
            observation="",
            reward=score.reward,
            wall_s=wall_s,
        )

    def _episode(
        self,
        policy: Policy,
        plan: EpisodePlan,
        turns: tuple[Turn, ...],
        reward: float,
        feedback: str,
        error: str | None,
    ) -> Trajectory:
        return Trajectory(
            **plan.coordinates(),
            env=self.env,
            policy=policy.name,
            knowledge_digest=None,
            intro="",
            turns=turns,
            terminated=error is None,
            truncated=False,
            reward=reward,
            feedback=feedback,
            error=error,
        )
