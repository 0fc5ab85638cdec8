"""ShareGPT: `{conversations: [{from, value}], system, tools}`, with the common variants of role names.

A `function_call` is an assistant message with JSON text `{name, arguments}`; an `observation` is a tool message.
`kto_tag` (LLaMA-Factory) is a thumb for the conversation.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from oel_core.imports import chat
from oel_core.imports.conversations import calls_of
from oel_core.imports.fields import decoded, first, mapping, sequence, text
from oel_core.imports.records import Call, Feedback
from oel_core.runs.jsonl import LineError

_SPEAKERS = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "observation": "tool",
    "tool": "tool",
    "function_response": "tool",
}
_CALLING = ("function_call", "tool_call")


def read(entry: Any) -> Iterator[Call]:
    """The calls of one conversation."""
    shared = mapping(entry, "")
    said = sequence(first(shared, "conversations", "conversation", "items"), "conversations")
    messages = [_message(mapping(each, f"conversations.{place}"), place) for place, each in enumerate(said)]
    if shared.get("system"):
        messages.insert(0, {"role": "system", "content": text(shared["system"])})
    tag = shared.get("kto_tag")
    feedback = [Feedback(source="human", whole=True, thumbs=tag)] if isinstance(tag, bool) else []
    tools = shared.get("tools") or None
    return calls_of(chat.prompt(messages, tools, "conversations"), text(shared.get("id")), feedback=feedback)


def _message(said: Mapping[str, Any], place: int) -> dict[str, Any]:
    speaker = text(first(said, "from", "role")).lower()
    if speaker not in _SPEAKERS:
        raise LineError(f"conversations.{place}.from", f"it is none of {', '.join(_SPEAKERS)}")
    value = first(said, "value", "content")
    if speaker not in _CALLING:
        return {"role": _SPEAKERS[speaker], "content": text(value)}
    calls = decoded(value)
    return {"role": "assistant", "content": "", "tool_calls": calls if isinstance(calls, list) else [calls]}
