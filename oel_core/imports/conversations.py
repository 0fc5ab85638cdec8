"""Converts a whole conversation to calls: one per assistant message."""

from collections.abc import Iterator, Sequence

from oel_core.imports.records import Call, Feedback
from oel_core.types import Message


def calls_of(
    messages: Sequence[Message],
    id: str = "",
    *,
    session: str = "",
    model: str = "",
    feedback: Sequence[Feedback] = (),
    left_out: Sequence[int] = (),
) -> Iterator[Call]:
    """The calls of a conversation; the prompt of each is everything before its answer.

    Args:
        messages: the whole conversation, tools in its first message.
        id: of the conversation; calls are numbered.
        session: empty if conversations are identified by their content.
        feedback: on the conversation; attached to the last call.
        left_out: positions of answers not to be trained on; they stay in later prompts.
    """
    begun = next((number for number, one in enumerate(messages) if one.role in ("user", "tool")), len(messages))
    answers = [  # what an assistant says before anybody spoke is a greeting that the deployment wrote
        number
        for number, one in enumerate(messages)
        if number > begun and one.role == "assistant" and number not in left_out
    ]
    for number in answers:
        yield Call(
            id=f"{id}#{number}" if id else "",
            session=session,
            messages=tuple(messages[:number]),
            response=messages[number],
            model=model,
            feedback=tuple(feedback) if number == answers[-1] else (),
        )
