"""Right answers from recorded sessions."""

import pytest

from oel_core.cases.known import cases_of
from oel_core.cases.tool_calls import calls_in
from oel_core.types import Message, ToolCall, Trajectory
from tests.cases.sessions import people, recorded, session

USER = Message(role="user", content="Close order A243.")
WRONG = '{"name": "close", "arguments": {"order": "A243"}}'
RIGHT = '{"name": "close", "arguments": {"order": "A243", "now": true}}'


def tried(*steps: tuple[str, str], end: str = "It is closed.") -> Trajectory:
    """A session of calls, each with its result."""
    history, turns = [USER], []
    for number, (call, result) in enumerate(steps):
        turns.append(recorded(history, call))
        made = tuple(ToolCall(id=f"c{number}", name=one.name, arguments=one.arguments) for one in calls_in(call))
        history += [
            Message(role="assistant", content="", tool_calls=made),
            Message(role="tool", content=result, tool_call_id=f"c{number}"),
        ]
    return session("e", turns=[*turns, recorded(history, end)])


def right(episode: Trajectory) -> list[list[str]]:
    """The right answers of each turn."""
    return [list(case.texts) for case in cases_of(episode, "s", "held_out", 1)]


def test_calls_that_people_approved_are_right_and_approved_texts_are_not() -> None:
    """Another text may be as good; and what nobody called right is not known to be."""
    good, bad = [people(thumbs=True)], [people(thumbs=False)]
    assert right(session("e", ("Close A243", RIGHT), given=good)) == [[RIGHT]]
    assert right(session("e", ("Close A243", "It is closed."), given=good)) == [[]]
    assert right(session("e", ("Close A243", RIGHT), given=bad)) == [[]]
    assert right(session("e", ("Close A243", RIGHT), given=[*good, *bad])) == [[]]
    assert right(session("e", ("Close A243", RIGHT))) == [[]]


def test_feedback_gives_right_answers_rubrics_and_a_verdict() -> None:
    given = [
        people(score=0.0, correction="It is closed."),
        people(expected="closed", superseded=True),
        people(rubric="Names the order."),
        people(correction="It is closed."),
    ]
    first, last = cases_of(session("e", ("Hello", "Hi"), ("Close A1", "No."), given=given), "s", "validation", 3)
    assert (first.answers, first.verdict, first.rubrics) == ((), None, ())
    assert [(answer.kind, answer.text) for answer in last.answers] == [("correction", "It is closed.")]
    assert (last.rubrics, last.verdict, last.recorded) == (("Names the order.",), 0.0, "No.")
    assert (last.share, last.round, last.session) == ("validation", 3, "s")
    assert [message.content for message in last.messages][1:] == ["Hello", "Hi", "Close A1"]


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ([people(thumbs=True)], 1.0),
        ([people(thumbs=False)], 0.0),
        ([people(score=0.8)], 0.0),
        ([people(score=1.0), people(thumbs=True)], 1.0),
        ([people(correction="x")], 0.0),
        ([people(comment="x")], None),
        ([people(thumbs=True).model_copy(update={"source": "judge"})], None),
    ],
)
def test_a_verdict_is_what_people_thought(given: list[object], verdict: float | None) -> None:
    (case,) = cases_of(session("e", ("Hello", "Hi"), given=given), "s", "held_out", 1)  # type: ignore[arg-type]
    assert case.verdict == verdict


def test_feedback_on_a_session_of_several_turns_says_nothing_about_the_last_one() -> None:
    given = [people(thumbs=False, whole=True)]
    assert cases_of(session("e", ("a", "b"), ("c", "d"), given=given), "s", "held_out", 1)[-1].verdict is None
    assert cases_of(session("e", ("a", "b"), given=given), "s", "held_out", 1)[-1].verdict == 0.0


@pytest.mark.parametrize(
    "result",
    [
        "Error: missing argument now",
        '{"error": "missing argument now"}',
        '{"success": false}',
        '{"status": "failed"}',
        '{"status_code": 422, "detail": "now"}',
        '"error: now"',
        "Traceback (most recent call last): ...",
    ],
)
def test_the_call_that_succeeded_is_right_where_the_first_one_failed(result: str) -> None:
    first, second, last = right(tried((WRONG, result), (RIGHT, '{"status": "closed"}')))
    assert [call.arguments for call in calls_in(first[0])] == ['{"order": "A243", "now": true}']
    assert second == last == []


def test_no_call_is_right_that_failed_or_whose_result_is_unknown_or_that_came_after_another_request() -> None:
    assert right(tried((WRONG, "error"), (RIGHT, "error"))) == [[], [], []]
    assert right(tried((WRONG, '{"status": "closed", "error": null}'), (RIGHT, "done"))) == [[], [], []]
    assert right(tried((WRONG, "error"), ('{"name": "open", "arguments": {}}', "done"))) == [[], [], []]
    other = tried((WRONG, "error"), (RIGHT, "done"))
    asked_again = [*other.turns[1].messages, Message(role="user", content="Now A7.")]
    turns = [
        other.turns[0],
        other.turns[1].model_copy(update={"messages": tuple(asked_again)}),
        other.turns[2],
    ]
    assert right(other.model_copy(update={"turns": tuple(turns)}))[0] == []
    assert right(other.model_copy(update={"turns": other.turns[:2]})) == [[], []]


def test_ids_tell_cases_apart_and_stay() -> None:
    found = [case.id for case in cases_of(session("e", ("a", "b"), ("a", "b")), "s", "held_out", 1)]
    again = [case.id for case in cases_of(session("x", ("a", "b"), ("a", "b")), "s", "held_out", 2)]
    other = [case.id for case in cases_of(session("e", ("a", "b"), ("a", "b")), "t", "held_out", 1)]
    assert len({*found, *other}) == 4
    assert found == again
