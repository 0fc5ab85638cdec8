"""Placeholders for the texts of a conversation while the chat template is rendered."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic_core import from_json

from oel_core.text.thinking import PAIRS
from oel_core.types import Message, Tool, ToolCall


class Part(NamedTuple):
    """A piece of a prompt."""

    text: str
    own: bool
    """Written by the template; otherwise text of a message."""


@dataclass
class Slots:
    """Placeholders and the texts they stand for."""

    stem: str
    texts: dict[str, str] = field(default_factory=dict)
    required: dict[str, Message] = field(default_factory=dict)
    """Placeholders that the prompt must contain, with the message of each."""
    verbatim: dict[str, str] = field(default_factory=dict)
    """A message with thinking as rendered by a template that keeps thinking → the placeholder of the whole message."""

    def put(self, text: str, message: Message | None = None) -> str:
        """A placeholder for the text; surrounding white space is kept, so that templates can strip it."""
        inside = text.strip()
        if not inside:
            return text
        slot = f"{self.stem}{len(self.texts):06d}z"
        self.texts[slot] = inside
        if message is not None:
            self.required[slot] = message
        start = text.index(inside)
        return text[:start] + slot + text[start + len(inside) :]

    def content(self, message: Message, template: str) -> str:
        """The content that the template gets for a message."""
        for opens, ends in PAIRS:
            if message.role == "assistant" and ends in template and ends in message.content:
                return self._with_thinking(message, opens, ends)
        return self.put(message.content, message)

    def _with_thinking(self, message: Message, opens: str, ends: str) -> str:
        """Templates cut thinking off by its markers, so the markers stay."""
        before, _, after = message.content.partition(ends)
        mark = opens if before.lstrip().startswith(opens) else ""
        thoughts = before.lstrip().removeprefix(mark)
        if not (thoughts.strip() or after.strip()):
            return self.put(message.content, message)
        given = mark + self.put(thoughts) + ends + self.put(after, message)
        self.verbatim[given.strip()] = self.put(message.content.strip())
        return given

    def parts(self, rendered: str) -> list[Part]:
        for given, whole in self.verbatim.items():
            rendered = rendered.replace(given, whole)
        pieces = re.split(f"({self.stem}[0-9]{{6}}z)", rendered)
        parts = (Part(self.texts.get(piece, piece), own=piece not in self.texts) for piece in pieces)
        return [part for part in parts if part.text]

    def missing(self, rendered: str) -> Message | None:
        """A message whose text the template left out, or None."""
        return next((message for slot, message in self.required.items() if slot not in rendered), None)

    def message(self, message: Message, template: str) -> dict[str, Any]:
        """A message as templates expect it, with placeholders for all of its texts."""
        role = "system" if message.role == "developer" and "developer" not in template else message.role
        given: dict[str, Any] = {"role": role, "content": self.content(message, template)}
        if message.tool_calls:
            given["tool_calls"] = [self._call(call, message) for call in message.tool_calls]
        if message.tool_call_id is not None:
            given["tool_call_id"] = self.put(message.tool_call_id)
        return given

    def tool(self, tool: Tool, message: Message) -> dict[str, Any]:
        """The declaration of a function; its name must occur in the prompt."""
        function = {
            "name": self.put(tool.name, message),
            "description": self._json_text(tool.description),
            "parameters": self._json(from_json(tool.parameters)),
        }
        return {"type": "function", "function": function}

    def _call(self, call: ToolCall, message: Message) -> dict[str, Any]:
        try:
            arguments = from_json(call.arguments or "{}")
        except ValueError:
            arguments = None
        given = self._json(arguments) if isinstance(arguments, dict) else self.put(call.arguments, message)
        function = {"name": self.put(call.name, message), "arguments": given}
        return {"id": self.put(call.id), "type": "function", "function": function}

    def _json(self, value: Any) -> Any:
        """A value for a template that writes JSON, with placeholders for all strings, field names included."""
        if isinstance(value, str):
            return self._json_text(value)
        if isinstance(value, Mapping):
            return {self._json_text(name): self._json(entry) for name, entry in value.items()}
        return [self._json(entry) for entry in value] if isinstance(value, list) else value

    def _json_text(self, text: str) -> str:
        """Escaped here, because the template's JSON filter sees only the placeholder."""
        return self.put(json.dumps(text, ensure_ascii=False)[1:-1])
