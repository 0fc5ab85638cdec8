"""JSON, and calls of functions, in the text of an answer, with whatever stands around them."""

import json
import re
from collections.abc import Iterator
from typing import Any

from oel_core.types import ToolCall

MOST_CHARACTERS = 20_000
"""Of an answer that are looked at, from its end."""
MOST_FAILURES = 500
"""Brackets that begin no JSON, after which the rest is not looked at: untrusted text must not take long."""
_OPENING = re.compile(r"[{\[]")
_ARGUMENTS = ("arguments", "parameters", "args")


def objects_in(text: str) -> Iterator[Any]:
    """Every JSON object and array that lies in no other, in order."""
    text, decoder, start, failures = text[-MOST_CHARACTERS:], json.JSONDecoder(), 0, 0
    while failures < MOST_FAILURES and (found := _OPENING.search(text, start)) is not None:
        try:
            value, start = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            start, failures = found.end(), failures + 1
        else:
            yield value


def calls_in(text: str) -> list[ToolCall]:
    """The calls in an answer, as models write them: objects with a `name` and `arguments` (or `parameters`).

    That is how Hermes, Qwen and Llama write them, with or without tags, and how recorded calls stand in an episode.
    """
    return [call for value in objects_in(text) for call in _calls(value)]


def _calls(value: Any) -> Iterator[ToolCall]:
    """The calls within a parsed value; the arguments of one hold no others."""
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
    """The arguments' value; their text where it is no JSON."""
    try:
        return json.loads(call.arguments)
    except (ValueError, RecursionError):
        return call.arguments
