"""OpenAI's fine-tuning files: one conversation per line, `{messages, tools, parallel_tool_calls}`.

An assistant message with `weight` 0 is part of later prompts but not trained on.
"""

from collections.abc import Iterator
from typing import Any

from oel_core.imports import chat
from oel_core.imports.conversations import calls_of
from oel_core.imports.fields import first, mapping, sequence
from oel_core.imports.records import Call


def read(entry: Any) -> Iterator[Call]:
    """The calls of one conversation."""
    example = mapping(entry, "")
    raw = sequence(example.get("messages"), "messages")
    messages = chat.prompt(list(raw), first(example, "tools", "functions"), "messages")
    added = len(messages) - len(raw)  # a system message that carries the tools, or several of them made one
    unwanted = [
        number + added for number, each in enumerate(raw) if mapping(each, f"messages.{number}").get("weight") == 0
    ]
    return calls_of(messages, left_out=unwanted)
