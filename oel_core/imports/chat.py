"""Parses messages and tools in OpenAI's format (https://platform.openai.com/docs/api-reference/chat) and its common
variants: null content, content parts, arguments as an object, the older `function` fields."""

from collections.abc import Mapping, Sequence
from typing import Any

from oel_core.imports.fields import first, mapping, sequence, text
from oel_core.runs.jsonl import LineError
from oel_core.types import INSTRUCTING, Message, Tool, ToolCall

_ROLES = {role: role for role in ("system", "developer", "user", "assistant", "tool")} | {
    "function": "tool",
    "human": "user",
    "ai": "assistant",
    "model": "assistant",
}
_TEXT_PARTS = ("text", "input_text", "output_text", "refusal")


def prompt(messages: Any, tools: Any, field: str) -> tuple[Message, ...]:
    """The prompt, with its tools in the first message; a system message is added for them if there is none.

    Consecutive system messages at the beginning are joined.

    Raises:
        LineError: an element is no message, or has content other than text.
    """
    found = [message(each, f"{field}.{number}") for number, each in enumerate(sequence(messages, field))]
    lead = next((number for number, each in enumerate(found) if each.role not in INSTRUCTING), len(found))
    declared = tuple(_tools(tools))
    if not lead and not declared:
        return tuple(found)
    role = found[0].role if lead else "system"
    content = "\n\n".join(each.content for each in found[:lead] if each.content)
    return (Message(role=role, content=content, tools=declared), *found[lead:])


def message(value: Any, field: str) -> Message:
    """Parses one message.

    Raises:
        LineError: it is no message, or contains an image, audio or a file.
    """
    said = mapping(value, field)
    role = _ROLES.get(text(said.get("role")))
    if role is None:
        raise LineError(f"{field}.role", f"it is none of {', '.join(_ROLES)}")
    calls = tuple(_calls(said, field)) if role == "assistant" else ()
    answers = text(first(said, "tool_call_id", "name")) or None if role == "tool" else None
    return Message(
        role=role,  # type: ignore[arg-type]
        content=_content(said.get("content"), f"{field}.content"),
        tool_calls=calls,
        tool_call_id=answers,
    )


def _content(value: Any, field: str) -> str:
    if not isinstance(value, list):
        return text(value)
    return "".join(_part(part, f"{field}.{number}") for number, part in enumerate(value))


def _part(part: Any, field: str) -> str:
    if isinstance(part, str):
        return part
    kind = text(mapping(part, field).get("type")) or "text"
    if kind not in _TEXT_PARTS:
        raise LineError(field, "a part of the message is no text: only text can be learned from")
    return text(first(part, "text", "refusal", "content"))


def _calls(said: Mapping[str, Any], field: str) -> list[ToolCall]:
    calls = sequence(said.get("tool_calls"), f"{field}.tool_calls")
    if not calls and said.get("function_call"):
        calls = [{"function": said["function_call"]}]
    return [tool_call(call, f"{field}.tool_calls.{number}") for number, call in enumerate(calls)]


def tool_call(value: Any, field: str) -> ToolCall:
    """Parses a call `{id, function: {name, arguments}}` or `{id, name, arguments}`; arguments may be an object.

    Raises:
        LineError: it is no call, or has no function name.
    """
    call = mapping(value, field)
    function = mapping(call.get("function") or call, f"{field}.function")
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise LineError(f"{field}.function.name", "it is missing: a call names its function")
    return ToolCall(id=text(call.get("id")), name=name, arguments=text(first(function, "arguments", "args")) or "{}")


def _tools(tools: Any) -> Sequence[Tool]:
    """The declared functions; a provider's built-in tools are left out."""
    found = []
    for number, each in enumerate(sequence(tools, "tools")):
        declared = mapping(each, f"tools.{number}")
        function = mapping(declared.get("function") or declared, f"tools.{number}.function")
        if "name" in function:
            schema = mapping(function.get("parameters") or {}, f"tools.{number}.function.parameters")
            description = text(function.get("description"))
            found.append(Tool(name=function["name"], description=description, parameters=text(dict(schema))))
    return found
