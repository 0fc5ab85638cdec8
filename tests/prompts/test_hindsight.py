"""A user's message after an answer: an objection, the same request again, or neither."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.prompts.extraction.base import transcript
from oel_core.prompts.extraction.hindsight import Reaction, reaction, reactions
from oel_core.types import Message, Trajectory, Turn
from tests.builders import episode, turn

REQUEST = "Where is my red kettle, order 312?"
OBJECTIONS = [
    "No, order 213.",
    "No that is the lamp",
    "Wrong.",
    "That's not what I asked.",
    "that isn't right",
    "This is not my order.",
    "I meant the other one.",
    "I didn't ask for a refund",
    "You forgot the kettle.",
    "It still doesn't work.",
    "Still the same error",
    "Actually, it was blue.",
    "  Not quite: the order is 213.",
    "Try again, please.",
]
REPEATS = ["Where is my red kettle, order 312???", "so: where is my red kettle, order 312?", "WHERE IS MY RED KETTLE"]
NEITHER = [
    "Thank you!",
    "No problem, thanks.",
    "No thanks.",
    "no, thank you",
    "No need, I found it.",
    "Nobody was at home.",
    "Now please cancel it.",
    "And where is my lamp?",
    "Note that I moved.",
    "That is great.",
    "It works now.",
    "",
]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [(OBJECTIONS, Reaction.OBJECTS), (REPEATS, Reaction.REPEATS), (NEITHER, Reaction.GOES_ON)],
)
def test_messages_after_an_answer(messages: list[str], expected: Reaction) -> None:
    assert {message: reaction(REQUEST, message) for message in messages} == dict.fromkeys(messages, expected)


def test_a_request_in_any_language_is_recognised_when_it_comes_again() -> None:
    assert reaction("Wo bleibt mein roter Kessel?", "Wo bleibt mein roter Kessel denn?") is Reaction.REPEATS
    assert reaction("我的红色水壶在哪里", "我的红色水壶在哪里?") is Reaction.REPEATS
    assert reaction("Yes.", "Yes.") is Reaction.GOES_ON


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_texts_have_a_relation(request_text: str, message: str) -> None:
    assert reaction(request_text, message) in Reaction


def talk(*contents: str) -> Trajectory:
    """A recorded conversation: user and assistant in turns."""
    turns: list[Turn] = []
    messages: tuple[Message, ...] = (Message(role="system", content="You help."),)
    for number, (said, answer) in enumerate(zip(contents[::2], contents[1::2], strict=True)):
        messages = (*messages, Message(role="user", content=said))
        turns.append(turn(number).model_copy(update={"messages": messages, "response": answer}))
        messages = (*messages, Message(role="assistant", content=answer))
    return episode("e", turns=turns).model_copy(update={"intro": ""})


def test_the_extractor_reads_how_a_message_relates_to_the_answer_before_it() -> None:
    shown = transcript(talk(REQUEST, "On its way.", "No, order 213.", "It is lost.", "Thank you!", "Bye."), None)
    assert f"## Turn 1\nUser: {REQUEST}\nAnswer: On its way.\n" in shown
    assert "## Turn 2\nUser (objects to answer 1): No, order 213.\nAnswer: It is lost.\n" in shown
    assert "## Turn 3\nUser (next message after answer 2): Thank you!\nAnswer: Bye.\n" in shown


def test_reactions_are_those_of_users_to_answers() -> None:
    spoken = talk(REQUEST, "On its way.", f"Hello? {REQUEST}", "It is lost.", "Thank you!", "Bye.")
    assert list(reactions(spoken)) == [Reaction.REPEATS, Reaction.GOES_ON]
    tool = (*spoken.turns[1].messages[:-1], Message(role="tool", content="lost"))
    called = spoken.turns[1].model_copy(update={"messages": tool})
    assert list(reactions(spoken.model_copy(update={"turns": (spoken.turns[0], called)}))) == []
    other = called.model_copy(update={"messages": (Message(role="user", content="No!"),)})
    assert list(reactions(spoken.model_copy(update={"turns": (spoken.turns[0], other)}))) == []
    assert list(reactions(talk(REQUEST, "On its way."))) == []
