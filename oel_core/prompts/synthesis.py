"""The prompt by which a model writes a user's message for which one piece of its knowledge matters."""

from oel_core.types import Message

SYSTEM = (
    "You write examples of what people send to an assistant. You are given one piece of advice that the assistant "
    "knows. Write one message to the assistant for which this advice matters. Write only the message, in the words of "
    "the person who sends it. Do not repeat the advice and do not answer the message."
)


def synthesis_messages(advice: str) -> tuple[Message, ...]:
    """The prompt about one item."""
    return (Message(role="system", content=SYSTEM), Message(role="user", content=f"Advice:\n{advice}\n\nMessage:"))
