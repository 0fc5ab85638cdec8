"""Parses tool calls in a response: `<tool_call>{...}</tool_call>`, or lines of JSON as `plain_tools` asks for."""

import json
import re
import uuid
from collections.abc import Collection
from typing import Any

from pydantic_core import from_json

_MARKED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_MARK = "<tool_call>"
_BEGINS = re.compile(rf"{_MARK}|^[ \t]*\{{|^[ \t]+\Z", re.MULTILINE)
"""Start of a call, or a last line that may become one."""


def tool_calls(text: str, names: Collection[str]) -> tuple[str, list[dict[str, Any]]]:
    """The text without its calls, and the calls in the API's format.

    Args:
        names: the functions that the request declares. A line of JSON that names none of them is text.
    """
    calls: list[dict[str, Any]] = []

    def take(found: re.Match[str]) -> str:
        call = _call(found[1])
        if call is None:
            return found[0]
        calls.append(call)
        return ""

    rest = []
    for line in _MARKED.sub(take, text).split("\n"):
        call = _call(line.strip()) if line.lstrip().startswith("{") else None
        if call is None or call["function"]["name"] not in names:
            rest.append(line)
        else:
            calls.append(call)
    return "\n".join(rest).rstrip() if calls else text, calls


def _call(text: str) -> dict[str, Any] | None:
    try:
        found = from_json(text)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("name"), str) or not found["name"]:
        return None
    arguments = found.get("arguments", found.get("parameters", {}))
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": found["name"], "arguments": written},
    }


def plain_length(text: str) -> int:
    """Length of the part of an unfinished text that cannot belong to a call."""
    found = _BEGINS.search(text)
    if found is not None:
        return found.start()
    return next((len(text) - n for n in range(len(_MARK) - 1, 0, -1) if text.endswith(_MARK[:n])), len(text))
