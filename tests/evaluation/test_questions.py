"""Question suites: thinking is not scored, subsets are nested, one invalid prompt fails alone."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.config.run import ModelConfig
from oel_core.config.sampling import Sampling
from oel_core.errors import ArtifactError, PromptTooLongError
from oel_core.evaluation.questions import Question, QuestionSet, Score, _scored, model_settings, pick, visible
from oel_core.policies.base import Completion, Request
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.types import IdSource, Message, StopReason, Trajectory
from tests.builders import timeless

SAMPLING = Sampling(max_tokens=64)


@pytest.mark.parametrize(
    ("response", "seen"),
    [
        ("plain", "plain"),
        ("<think>hm</think>\n\nso", "so"),
        ("hm</think> so", "so"),
        ("<think>a</think>b</think>c", "b</think>c"),
        ("<think>never ends", ""),
        ("", ""),
        ("x < y", "x < y"),
    ],
)
def test_what_was_thought_is_not_seen(response: str, seen: str) -> None:
    assert visible(response) == seen


@given(st.lists(st.integers(0, 99), unique=True), st.integers(1, 40), st.integers(0, 40))
def test_a_larger_subset_holds_the_smaller(items: list[int], count: int, more: int) -> None:
    def order(item: int) -> int:
        return item * 37 % 101

    small, large = pick(items, count, order), pick(items, count + more, order)
    assert len(small) == min(count, len(items))
    assert set(small) <= set(large) <= set(items)
    assert small == [item for item in items if item in small], "the old order stays"
    assert pick(items, None, order) == items


def ask(count: int) -> QuestionSet:
    questions = tuple(
        Question(f"q-{number}", (Message(role="user", content=f"{number}?"),), number, 1000 + number)
        for number in range(count)
    )
    return QuestionSet(
        "quiz", questions, SAMPLING, lambda at, answer: Score(float(answer == f"{at}!"), f"said {answer}")
    )


def answering(messages: tuple[Message, ...], seed: int) -> str:
    number = int(messages[-1].content[:-1])
    return f"<think>{seed}</think>{number}!" if number % 2 else "no idea"


def test_every_question_becomes_an_episode_of_one_turn() -> None:
    episodes = ask(5).run(ScriptedPolicy(answering, batch_size=2), (), lambda episode: None)
    assert [episode.id for episode in episodes] == [f"q-{number}" for number in range(5)]
    assert [episode.passed for episode in episodes] == [False, True, False, True, False]
    assert episodes[1].turns[0].response == "<think>1001</think>1!", "records keep what was really said"
    assert episodes[1].feedback == "said 1!"
    assert {episode.env for episode in episodes} == {"quiz"}
    assert not any(episode.truncated for episode in episodes)


class _Picky(ScriptedPolicy):
    """Cannot read some questions."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        bad = {at: "too long" for at, request in enumerate(requests) if request.messages[-1].content == "3?"}
        if bad:
            raise PromptTooLongError(bad)
        return super().generate(requests, sampling)


def test_a_question_that_does_not_fit_fails_alone() -> None:
    episodes = ask(6).run(_Picky(answering, batch_size=4), (), lambda episode: None)
    assert [episode.error is None for episode in episodes] == [True, True, True, False, True, True]
    assert "too long" in (episodes[3].error or "")
    assert episodes[5].passed


class _TextOnly(ScriptedPolicy):
    """Like a server that gives no token ids."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        return [replace(one, id_source=IdSource.RETOKENISED) for one in super().generate(requests, sampling)]


def test_records_say_whose_token_ids_they_hold() -> None:
    for policy, source in ((ScriptedPolicy(answering), IdSource.SAMPLED), (_TextOnly(answering), IdSource.RETOKENISED)):
        (episode,) = ask(1).run(policy, (), lambda episode: None)
        assert episode.turns[0].id_source is source


class _SlowFirst(_Picky):
    """Answers at once, but question 0 only after question 5 was asked."""

    def __init__(self) -> None:
        super().__init__(answering, batch_size=2)
        self.first: tuple[Future[Completion], Request] | None = None

    def submit(self, request: Request, sampling: Sampling) -> Future[Completion]:
        future: Future[Completion] = Future()
        if request.messages[-1].content == "0?":
            self.first = (future, request)
            return future
        if request.messages[-1].content == "5?" and self.first is not None:
            self.first[0].set_result(self.generate([self.first[1]], sampling)[0])
        try:
            future.set_result(self.generate([request], sampling)[0])
        except PromptTooLongError as error:
            future.set_exception(error)
        return future


def test_a_slow_answer_holds_up_nobody() -> None:
    handed: list[str] = []
    episodes = ask(6).run(_SlowFirst(), (), lambda episode: handed.append(episode.id))
    assert handed == ["q-1", "q-2", "q-3", "q-4", "q-0", "q-5"]
    alone = ask(6).run(_Picky(answering, batch_size=4), (), lambda episode: None)
    assert timeless(episodes) == timeless(alone)


def test_answers_to_other_questions_are_refused() -> None:
    handed: list[Trajectory] = []
    ask(3).run(ScriptedPolicy(answering), (), handed.append)
    with pytest.raises(ArtifactError, match=r"q-2 .* is none of this suite's"):
        ask(2).run(ScriptedPolicy(answering), handed, lambda episode: None)


def test_question_suites_choose_thinking_and_game_suites_do_not() -> None:
    thinking = ModelConfig(thinking=True)

    class Quiz:
        thinking = False

    assert model_settings(Quiz(), thinking).thinking is False  # type: ignore[arg-type]
    assert model_settings(object(), thinking) is thinking  # type: ignore[arg-type]


def test_an_answer_that_quotes_the_end_of_thinking_is_scored_whole_where_ids_tell_it() -> None:
    told = Completion("hm</think>no </think>1!", (1,), (2,), StopReason.EOS, answer="no </think>1!")
    assert _scored(told) == "no </think>1!"
    assert _scored(Completion("hm</think> 1!", (1,), (2,), StopReason.EOS)) == "1!"
