"""Builds the body of a chat completions request."""

from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json

from oel_core.text.markers import defused
from oel_core.types import Message, Tool, ToolCall


def chat_body(model: str, messages: Sequence[Message]) -> dict[str, Any]:
    """Model, messages and tools. Control tokens in texts are defused, because the server's template is applied to
    them."""
    body: dict[str, Any] = {"model": model, "messages": [_message(message) for message in messages]}
    tools = [_tool(tool) for message in messages for tool in message.tools]
    return body | {"tools": tools} if tools else body


def _message(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role, "content": defused(message.content)}
    if message.tool_calls:
        body["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    return body


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": defused(call.name), "arguments": defused(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def _tool(tool: Tool) -> dict[str, Any]:
    parameters = from_json(defused(tool.parameters))
    function = {"name": tool.name, "description": defused(tool.description), "parameters": parameters}
    return {"type": "function", "function": function}
