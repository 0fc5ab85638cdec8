"""Sessions are reconstructed from calls that each repeat the conversation so far."""

from collections.abc import Iterable

from oel_core.imports.records import Call, Feedback
from oel_core.imports.stitching import DUPLICATE, REGENERATED, CallStore
from oel_core.types import Message, ToolCall


def call(id: str, *said: str, session: str = "", request: str = "", rated: bool = False) -> Call:
    """A call whose prompt and answer alternate between user and assistant; `|` before a text makes it the system's."""
    *prompt, answer = said
    messages: list[Message] = []
    for text in prompt:
        if text.startswith("|"):
            messages.append(Message(role="system", content=text[1:]))
        else:
            last = messages[-1].role if messages else ""
            messages.append(Message(role="assistant" if last == "user" else "user", content=text))
    return Call(
        id=id,
        request=request,
        session=session,
        messages=tuple(messages),
        response=Message(role="assistant", content=answer),
        feedback=(Feedback(source="human", score=0.0),) if rated else (),
    )


def stitched(calls: Iterable[Call]) -> tuple[list[list[str]], dict[str, int]]:
    store = CallStore()
    for each in calls:
        store.add(each)
    sessions = [[one.id for one in session.calls] for session in store.sessions("test")]
    store.close()
    return sessions, dict(+store.dropped)


def test_a_call_goes_on_with_the_longest_conversation_that_its_prompt_begins_with() -> None:
    talk = [call("a", "1", "2"), call("b", "1", "2", "3", "4"), call("c", "1", "2", "3", "4", "5", "6")]
    other = call("x", "1", "other")
    assert stitched([talk[0], other, *talk[1:]]) == ([["a", "b", "c"], ["x"]], {})
    assert stitched(reversed(talk))[0] == [["a", "b", "c"]]


def test_conversations_of_two_sessions_are_kept_apart_even_where_they_say_the_same() -> None:
    calls = [call("a", "1", "2", session="s"), call("b", "1", "2", session="t")]
    assert stitched([*calls, call("c", "1", "2", "3", "4", session="t")]) == ([["a"], ["b", "c"]], {})


def test_a_side_call_in_mid_session_begins_a_session_of_its_own() -> None:
    title = call("title", "|Write a title.", "1 2", "Numbers", session="s")
    assert stitched([call("a", "1", "2", session="s"), title, call("b", "1", "2", "3", "4", session="s")])[0] == [
        ["a", "b"],
        ["title"],
    ]


def test_where_two_calls_continue_one_the_one_that_goes_on_is_the_session() -> None:
    """A question about the conversation is asked after its end, and one before it was edited."""
    calls = [
        call("a", "1", "2"),
        call("b", "1", "2", "3", "4"),
        call("c", "1", "2", "3", "4", "5", "6"),
        call("title", "1", "2", "a title?", "Numbers"),
    ]
    assert stitched(calls)[0] == [["a", "b", "c"], ["title"]]


def test_a_request_that_was_answered_again_counts_once() -> None:
    calls = [
        call("a", "1", "bad", session="s"),
        call("b", "1", "good", session="s"),
        call("c", "1", "good", "3", "4", session="s"),
        call("d", "1", "late", session="s"),
    ]
    assert stitched(calls) == ([["b", "c"]], {REGENERATED: 2})


def test_an_answer_that_somebody_rated_is_not_dropped() -> None:
    rated, later = call("a", "1", "bad", session="s", rated=True), call("b", "1", "good", session="s")
    assert stitched([rated, later]) == ([["a"]], {REGENERATED: 1})
    assert stitched([rated, later, call("c", "1", "good", "3", "4", session="s")]) == ([["a"], ["b", "c"]], {})


def test_choices_of_one_request_count_once_and_equal_questions_of_two_people_twice() -> None:
    assert stitched([call("a", "1", "x", request="r"), call("b", "1", "y", request="r")]) == ([["b"]], {REGENERATED: 1})
    assert stitched([call("a", "1", "x"), call("b", "1", "y")]) == ([["a"], ["b"]], {})


def test_a_call_that_was_logged_twice_counts_once() -> None:
    assert stitched([call("a", "1", "2"), call("b", "1", "2")]) == ([["a"]], {DUPLICATE: 1})


def test_what_a_client_changes_in_the_history_does_not_matter() -> None:
    first = Call(
        id="a",
        session="s",
        messages=(Message(role="system", content="It is 9:00."), Message(role="user", content="1")),
        response=Message(
            role="assistant",
            content="<think>hm</think> 2",
            tool_calls=(ToolCall(id="x", name="f", arguments='{"b":1, "a":2}'),),
        ),
    )
    again = Message(role="assistant", content="2\n", tool_calls=(ToolCall(name="f", arguments='{"a": 2, "b": 1}'),))
    second = first.model_copy(
        update={
            "id": "b",
            "messages": (
                Message(role="developer", content="It is 9:01."),
                Message(role="user", content="1"),
                again,
                Message(role="tool", content="ok", tool_call_id="x"),
            ),
        }
    )
    assert stitched([first, second])[0] == [["a", "b"]]
