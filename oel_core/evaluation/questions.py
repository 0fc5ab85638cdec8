"""Suites of single questions: one prompt, one response, one score, recorded as an episode of one turn."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from oel_core.config.run import ModelConfig
from oel_core.config.sampling import Sampling
from oel_core.errors import ArtifactError, PromptTooLongError
from oel_core.evaluation.base import OnEpisode, Suite
from oel_core.policies.answers import answer_batch
from oel_core.policies.base import Completion, Policy, Request, StreamingPolicy
from oel_core.policies.completions import PendingCompletions
from oel_core.policies.replicated.policy import on_each
from oel_core.rollouts.planning import EpisodePlan
from oel_core.rollouts.playing import groups, prompt_digest, unfinished
from oel_core.text.thinking import PAIRS, answer_in
from oel_core.types import Message, Split, Trajectory, Turn

Item = TypeVar("Item")


@dataclass(frozen=True)
class Question:
    """One prompt of a suite."""

    id: str
    """Id of its episode."""
    messages: tuple[Message, ...]
    number: int
    """Number of the question in its data; recorded in place of an environment seed."""
    seed: int
    """Sampling seed of the response."""
    shown: tuple[Message, ...] = ()
    """The policy's prompt if it differs from `messages`, as with knowledge, which is never recorded."""


@dataclass(frozen=True)
class Score:
    """Score of one response."""

    reward: float
    """1.0 is a pass."""
    feedback: str
    """Reason for the score; the episode's feedback."""


class QuestionSuite(Suite, Protocol):
    """A suite of single questions, which sets whether thinking is enabled."""

    @property
    def thinking(self) -> bool:
        """Replaces `model.thinking` for this suite."""
        ...


def model_settings(suite: Suite, model: ModelConfig) -> ModelConfig:
    """The model settings for a suite: game suites use the run's, question suites set thinking."""
    thinking = getattr(suite, "thinking", model.thinking)
    return model if thinking == model.thinking else model.model_copy(update={"thinking": thinking})


def visible(response: str) -> str:
    """A response without its thinking: if it only ends its thinking, the prompt began it."""
    answer = answer_in(response, begun=any(ends in response for _, ends in PAIRS))
    return response if answer == response else answer.lstrip()


def _scored(completion: Completion) -> str:
    """The part of a response that is scored."""
    return visible(completion.text) if completion.answer is None else completion.answer.lstrip()


def pick(items: Sequence[Item], count: int | None, order: Callable[[Item], object]) -> list[Item]:
    """`count` items spread over all of them: those with the smallest `order`, in their original order (None: all).

    A larger subset contains the smaller one.
    """
    if count is None or count >= len(items):
        return list(items)
    chosen = sorted(range(len(items)), key=lambda at: (str(order(items[at])), at))[:count]
    return [items[at] for at in sorted(chosen)]


@dataclass(frozen=True)
class QuestionSet:
    """The questions of one suite with their scoring."""

    env: str
    """Name of the environment in the episodes."""
    questions: tuple[Question, ...]
    sampling: Sampling
    score: Callable[[int, str], Score]
    """(index of the question, response without thinking) → its score."""
    split: Split = Split.HELD_OUT

    def run(self, policy: Policy, done: Sequence[Trajectory], on_episode: OnEpisode) -> list[Trajectory]:
        """One episode per question, in order; questions in `done` are skipped.

        Raises:
            ArtifactError: `done` has responses to other questions.
            PolicyError: the policy cannot generate at all.
        """
        plans = self._plans()
        self._check(done)
        found = {episode.id: episode for episode in done}
        waiting = unfinished(plans, set(found), policy)
        answered = (
            self._stream(policy, waiting)
            if isinstance(policy, StreamingPolicy)
            else self._ask(policy, groups(waiting, policy.batch_size))
        )
        for episode in answered:
            if episode.id not in found:
                found[episode.id] = episode
                on_episode(episode)
        return [found[plan.id] for plan in plans]

    def _plans(self) -> list[EpisodePlan]:
        return [
            EpisodePlan(question.id, question.number, self.split, 0, 0, index)
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

    def _request(self, plan: EpisodePlan) -> Request:
        question = self.questions[plan.index]
        return Request(question.shown or question.messages, question.seed)

    def _stream(self, policy: StreamingPolicy, plans: Sequence[EpisodePlan]) -> Iterator[Trajectory]:
        """Yields episodes in completion order."""
        pending, upcoming = PendingCompletions[EpisodePlan](policy, self.sampling), list(reversed(plans))
        try:
            while upcoming or len(pending):
                if upcoming and pending.has_room:
                    plan = upcoming.pop()
                    pending.submit(plan, self._request(plan))
                else:
                    completed = pending.next_completed()
                    yield self._episode(policy, completed.item, completed.answer, completed.seconds)
        finally:
            pending.cancel()

    def _ask(self, policy: Policy, batches: Sequence[Sequence[EpisodePlan]]) -> Iterator[Trajectory]:
        """Yields episodes in order. Questions that do not fit the model fail; the others continue."""
        requests = ([self._request(plan) for plan in batch] for batch in batches)
        answered = on_each(policy, partial(answer_batch, sampling=self.sampling), requests)
        for batch, answers in zip(batches, answered, strict=True):
            for plan, completed in zip(batch, answers, strict=True):
                yield self._episode(policy, plan, completed.answer, completed.seconds)

    def _turn(self, plan: EpisodePlan, completion: Completion, score: Score, wall_s: float) -> Turn:
        return Turn(
            messages=self.questions[plan.index].messages,
            prompt_ids_digest=prompt_digest(completion.prompt_ids),
            prompt_tokens=len(completion.prompt_ids),
            response=completion.text,
            response_ids=completion.response_ids,
            stop_reason=completion.stop_reason,
            action="answer" if _scored(completion).strip() else None,
            observation="",
            reward=score.reward,
            wall_s=wall_s,
            id_source=completion.id_source,
        )

    def _episode(
        self, policy: Policy, plan: EpisodePlan, answer: Completion | PromptTooLongError, wall_s: float
    ) -> Trajectory:
        if isinstance(answer, PromptTooLongError):
            return self._record(policy, plan, (), Score(0.0, ""), f"PromptTooLongError: {answer}")
        score = self.score(plan.index, _scored(answer))
        return self._record(policy, plan, (self._turn(plan, answer, score, wall_s),), score, None)

    def _record(
        self, policy: Policy, plan: EpisodePlan, turns: tuple[Turn, ...], score: Score, error: str | None
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
            reward=score.reward,
            feedback=score.feedback,
            error=error,
        )
