"""Recorded sessions of a shop, and cases."""

from collections.abc import Sequence
from typing import Any

from oel_core.cases.case import Case, RightAnswer
from oel_core.types import Feedback, IdSource, Message, StopReason, Trajectory, Turn
from tests.builders import episode


def said(number: int) -> str:
    """A request that shares no word triple with that of any other number below 4096."""
    return " ".join(f"word{shift}{number >> shift & 15}" for shift in (0, 4, 8)) + f" number {number}"


def session(
    id: str,
    *exchanges: tuple[str, str],
    user: str = "",
    session: str = "",
    given: Sequence[Feedback] = (),
    turns: Sequence[Turn] = (),
) -> Trajectory:
    """A session of these requests and answers; `given` is feedback on the last answer."""
    history: list[Message] = [Message(role="system", content="You help in a shop.")]
    found: list[Turn] = list(turns)
    for asked, answer in exchanges:
        history.append(Message(role="user", content=asked))
        found.append(recorded(history, answer))
        history.append(Message(role="assistant", content=answer))
    if given:
        found[-1] = found[-1].model_copy(update={"given": tuple(given)})
    recording = {"env": "recorded", "round": 0, "policy": "shop-1", "intro": "", "session": session, "user": user}
    return episode(id, turns=found, feedback="").model_copy(update=recording)


def recorded(messages: Sequence[Message], answer: str) -> Turn:
    """One recorded call."""
    return Turn(
        messages=tuple(messages),
        prompt_ids_digest="",
        prompt_tokens=0,
        response=answer,
        response_ids=(),
        stop_reason=StopReason.EOS,
        action=answer,
        observation="",
        reward=0.0,
        wall_s=0.0,
        id_source=IdSource.RETOKENISED,
    )


def people(**given: Any) -> Feedback:
    """What a person said."""
    return Feedback(source="human", **given)


def case(number: int = 0, *right: str, **changes: Any) -> Case:
    """A held-out case of a session of its own."""
    values: dict[str, Any] = {
        "id": f"case-{number:016x}",
        "share": "held_out",
        "session": f"s{number}",
        "round": 1,
        "messages": (Message(role="user", content=said(number)),),
        "answers": tuple(RightAnswer(kind="expected", text=text) for text in right),
        "recorded": "I do not know.",
    }
    return Case(**(values | changes))
