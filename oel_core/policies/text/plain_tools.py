"""Tools, calls and results as plain text, for chat templates without tool support."""

import json
from collections.abc import Sequence
from typing import Literal

from oel_core.types import INSTRUCTING, Message, ToolCall

ASK = 'To call a function, answer with one line of JSON for each call: {"name": ..., "arguments": {...}}'


def plain_tools(messages: Sequence[Message]) -> list[Message] | None:
    """The conversation with the roles system, user and assistant only; None if it has no tools, calls or results.

    Declarations are appended to the system message as JSON, calls to the assistant's text as JSON, and results become
    user messages. Neighbouring messages of one role are merged, since many templates require alternating roles.
    """
    if not any(message.tools or message.tool_calls or message.role == "tool" for message in messages):
        return None
    found: list[Message] = []
    for message in messages:
        role, text = _plain(message)
        if found and found[-1].role == role:
            text = f"{found.pop().content}\n\n{text}"
        found.append(Message(role=role, content=text))
    return found


def _plain(message: Message) -> tuple[Literal["system", "user", "assistant"], str]:
    if message.role in INSTRUCTING:
        declared = [
            f'{{"name": {json.dumps(tool.name)}, "description": {json.dumps(tool.description, ensure_ascii=False)}, '
            f'"parameters": {tool.parameters}}}'
            for tool in message.tools
        ]
        functions = ["\n".join(["Functions:", *declared, ASK])] if declared else []
        return "system", "\n\n".join(filter(None, [message.content, *functions]))
    if message.role == "tool":
        return "user", f"Result: {message.content}"
    calls = [call_line(call) for call in message.tool_calls]
    return "assistant" if message.role == "assistant" else "user", "\n".join(filter(None, [message.content, *calls]))


def call_line(call: ToolCall) -> str:
    """A call as one line of JSON; arguments that are not JSON are kept as a string."""
    return f'{{"name": {json.dumps(call.name, ensure_ascii=False)}, "arguments": {call.arguments or "{}"}}}'
