"""The only builder of student and teacher prompts.

The teacher's prompt is the student's with a knowledge block at the end of the system message, or in one of its own
where a prompt has none. In an environment's own prompts nothing before that block varies within a run, so its keys
and values can be shared by every prompt that reads the same knowledge.
"""

from collections.abc import Sequence

from oel_core.types import INSTRUCTING, Message, Tool, ToolCall

KNOWLEDGE_HEADER = "Knowledge from earlier episodes:"


def system_text(instructions: str, intro: str) -> str:
    """An environment's two texts as its system message; an empty one leaves no line."""
    return "\n".join(text for text in (instructions, intro) if text)


def first_messages(system: str, observation: str, tools: tuple[Tool, ...] = ()) -> tuple[Message, ...]:
    """The prompt of an episode's first turn, without knowledge. An empty `system` without `tools` is no message."""
    user = Message(role="user", content=observation)
    return (Message(role="system", content=system, tools=tools), user) if system or tools else (user,)


def next_messages(
    messages: Sequence[Message],
    response: str,
    observation: str,
    *,
    history_turns: int | None,
    call: ToolCall | None = None,
) -> tuple[Message, ...]:
    """The prompt of the following turn: the last `history_turns` exchanges are kept (None keeps all, 0 none).

    Args:
        call: what the response calls, which takes the place of its text, and whose result the observation is. A
            result whose call is not kept becomes the user's.
    """
    system, turns = _split(messages)
    if call is None:
        turns += [Message(role="assistant", content=response), Message(role="user", content=observation)]
    else:
        turns.append(Message(role="assistant", content="", tool_calls=(call,)))
        turns.append(Message(role="tool", content=observation, tool_call_id=call.id))
    kept = turns if history_turns is None else turns[max(0, len(turns) - 2 * history_turns - 1) :]
    if kept[0].role == "tool":
        kept[0] = Message(role="user", content=kept[0].content)
    return (*system, *kept)


def with_knowledge(messages: Sequence[Message], knowledge: str) -> tuple[Message, ...]:
    """The same prompt as a model reads it that knows `knowledge` (an empty string adds nothing).

    A prompt without a system message at its beginning gets one: what a user wrote stays the user's.
    """
    if not knowledge:
        return tuple(messages)
    system, turns = _split(messages)
    first = system[0] if system else Message(role="system", content="")
    before = f"{first.content}\n\n" if first.content else ""
    return (first.model_copy(update={"content": f"{before}{KNOWLEDGE_HEADER}\n{knowledge}"}), *turns)


def _split(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """The system or developer message that a prompt begins with, if it does, and everything after it."""
    count = 1 if messages and messages[0].role in INSTRUCTING else 0
    return list(messages[:count]), list(messages[count:])
