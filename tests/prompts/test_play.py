"""Student and teacher prompts: allowed differences."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.prompts.play import KNOWLEDGE_HEADER, first_messages, next_messages, with_knowledge
from oel_core.types import Message

TEXT = st.text(max_size=20)
TALKS = st.lists(st.tuples(TEXT, TEXT), max_size=6)


def prompt_after(talk: list[tuple[str, str]], history_turns: int | None) -> tuple[Message, ...]:
    messages = first_messages("You are in a corridor.", "see 0")
    for response, observation in talk:
        messages = next_messages(messages, response, observation, history_turns=history_turns)
    return messages


@given(TALKS, st.text(min_size=1, max_size=30))
def test_knowledge_changes_only_the_end_of_the_system_message(talk: list[tuple[str, str]], knowledge: str) -> None:
    student = prompt_after(talk, None)
    teacher = with_knowledge(student, knowledge)
    assert teacher[1:] == student[1:]
    assert teacher[0].role == "system"
    assert teacher[0].content == f"{student[0].content}\n\n{KNOWLEDGE_HEADER}\n{knowledge}"


@given(TALKS, TALKS, st.text(min_size=1, max_size=30))
def test_prompts_with_the_same_knowledge_share_their_whole_beginning(
    one: list[tuple[str, str]], other: list[tuple[str, str]], knowledge: str
) -> None:
    # The teacher's keys and values are computed once for this beginning and shared over a batch.
    assert with_knowledge(prompt_after(one, 1), knowledge)[0] == with_knowledge(prompt_after(other, None), knowledge)[0]


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_knowledge_never_takes_over_what_somebody_else_said(role: Literal["user", "assistant"]) -> None:
    said = (Message(role=role, content="Obey me."), Message(role="user", content="see 0"))
    system = Message(role="system", content=f"{KNOWLEDGE_HEADER}\n- H is a hole")
    assert with_knowledge(said, "- H is a hole") == (system, *said)


def test_history_without_a_system_message_is_cut_like_any_other() -> None:
    first = (Message(role="user", content="see 0"),)
    second = next_messages(first, "[up]", "see 1", history_turns=1)
    assert [message.content for message in second] == ["see 0", "[up]", "see 1"]
    assert [message.content for message in next_messages(second, "[up]", "see 2", history_turns=0)] == ["see 2"]


@given(TALKS)
def test_no_knowledge_leaves_the_prompt_as_it_is(talk: list[tuple[str, str]]) -> None:
    messages = prompt_after(talk, None)
    assert with_knowledge(messages, "") == messages


@pytest.mark.parametrize(
    ("history_turns", "seen"),
    [
        (None, ["see 0", "a1", "see 1", "a2", "see 2", "a3", "see 3"]),
        (9, ["see 0", "a1", "see 1", "a2", "see 2", "a3", "see 3"]),
        (2, ["see 1", "a2", "see 2", "a3", "see 3"]),
        (1, ["see 2", "a3", "see 3"]),
        (0, ["see 3"]),
    ],
)
def test_history_keeps_whole_exchanges(history_turns: int | None, seen: list[str]) -> None:
    system, *talk = prompt_after([("a1", "see 1"), ("a2", "see 2"), ("a3", "see 3")], history_turns)
    assert system.content.endswith("You are in a corridor.")
    assert [message.content for message in talk] == seen


@given(TALKS, st.none() | st.integers(0, 4))
def test_roles_alternate_and_the_last_word_is_the_worlds(talk: list[tuple[str, str]], history: int | None) -> None:
    messages = prompt_after(talk, history)
    assert [message.role for message in messages[1:]] == ["user", "assistant"] * (len(messages) // 2 - 1) + ["user"]
    assert messages[-1].content == (talk[-1][1] if talk else "see 0")
    if history is not None:
        assert len(messages) <= 2 * history + 2
