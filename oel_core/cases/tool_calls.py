"""Finds JSON values and tool calls in an answer's text."""

import json
import re
from collections.abc import Iterator
from typing import Any

from oel_core.types import ToolCall

MAX_CHARACTERS = 20_000
"""Only this many characters at the answer's end are parsed."""
MAX_FAILURES = 500
"""Parsing stops after this many brackets that begin no JSON, to bound the time for untrusted text."""
_OPENING = re.compile(r"[{\[]")
_ARGUMENTS = ("arguments", "parameters", "args")


def objects_in(text: str) -> Iterator[Any]:
    """All outermost JSON objects and arrays, in order."""
    text, decoder, start, failures = text[-MAX_CHARACTERS:], json.JSONDecoder(), 0, 0
    while failures < MAX_FAILURES and (found := _OPENING.search(text, start)) is not None:
        try:
            value, start = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            start, failures = found.end(), failures + 1
        else:
            yield value


def calls_in(text: str) -> list[ToolCall]:
    """The tool calls in an answer: objects with a `name` and `arguments` (or `parameters`).

    This is the format of Hermes, Qwen and Llama, with or without tags, and of recorded calls in an episode.
    """
    return [call for value in objects_in(text) for call in _calls(value)]


def _calls(value: Any) -> Iterator[ToolCall]:
    """The calls within a parsed value; arguments of a call are not searched."""
    if isinstance(value, list):
        for each in value:
            yield from _calls(each)
    if not isinstance(value, dict):
        return
    name, given = value.get("name"), next((value[key] for key in _ARGUMENTS if key in value), None)
    if isinstance(name, str) and name and isinstance(given, dict | str):
        yield ToolCall(name=name, arguments=given if isinstance(given, str) else json.dumps(given, ensure_ascii=False))
        return
    for each in value.values():
        yield from _calls(each)


def arguments(call: ToolCall) -> Any:
    """The parsed arguments, or their text if it is not JSON."""
    try:
        return json.loads(call.arguments)
    except (ValueError, RecursionError):
        return call.arguments
