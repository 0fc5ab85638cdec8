"""A whole conversation as the calls that an agent made for it: one for each of the assistant's messages."""

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
    """The calls of a conversation, each with everything before its answer as the prompt.

    Args:
        messages: the whole conversation, tools in its first message.
        id: the conversation's own; calls are numbered in it.
        session: empty where conversations are told apart by what they say.
        feedback: about the conversation; it goes with the last call.
        left_out: positions of answers that nobody should learn from; they stay in the prompts after them.
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
