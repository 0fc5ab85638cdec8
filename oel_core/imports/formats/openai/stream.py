"""Joins the chunks of a streamed chat completion."""

from collections.abc import Mapping, Sequence
from typing import Any

from oel_core.imports.fields import count, first, mapping, sequence, text
from oel_core.runs.jsonl import LineError


def joined(chunks: Sequence[Any]) -> Mapping[str, Any]:
    """The response `{id, model, usage, choices}` in the format of one that was not streamed.

    Raises:
        LineError: an element is no chunk, or there is no choice.
    """
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for number, chunk in enumerate(chunks):
        part = mapping(chunk, f"response.{number}")
        whole |= {name: part[name] for name in ("id", "model", "usage") if part.get(name)}
        for choice in sequence(part.get("choices"), f"response.{number}.choices"):
            _add(choices, mapping(choice, f"response.{number}.choices"), f"response.{number}.choices.delta")
    if not choices:
        raise LineError("response", "its chunks have no choices")
    return whole | {"choices": [_closed(choices[index]) for index in sorted(choices)]}


def _add(choices: dict[int, dict[str, Any]], choice: Mapping[str, Any], field: str) -> None:
    held = choices.setdefault(count(choice.get("index")), {"content": "", "calls": {}, "finish_reason": None})
    held["finish_reason"] = choice.get("finish_reason") or held["finish_reason"]
    delta = mapping(choice.get("delta") or {}, field)
    held["content"] += text(delta.get("content"))
    for call in sequence(delta.get("tool_calls"), f"{field}.tool_calls"):
        part = mapping(call, f"{field}.tool_calls")
        function = mapping(part.get("function") or {}, f"{field}.tool_calls.function")
        into = held["calls"].setdefault(count(part.get("index")), {"id": "", "name": "", "arguments": ""})
        into["id"] = into["id"] or text(part.get("id"))
        into["name"] += text(function.get("name"))
        into["arguments"] += text(first(function, "arguments"))


def _closed(held: Mapping[str, Any]) -> dict[str, Any]:
    calls = [held["calls"][index] for index in sorted(held["calls"])]
    message = {"role": "assistant", "content": held["content"], "tool_calls": calls}
    return {"message": message, "finish_reason": held["finish_reason"]}
