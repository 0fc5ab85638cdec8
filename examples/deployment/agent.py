"""The shop's assistant: an ordinary agent on an OpenAI-compatible endpoint, whose tool runs here.

It knows nothing of rounds, knowledge or champions. What it is told besides the endpoint is one header, which keeps the
conversations of different customers apart.
"""

import json
from typing import Any, NamedTuple

import openai
from shop import SYSTEM, TOOL, hand_over


class Reply(NamedTuple):
    """What a customer gets, and what the shop's log keeps of it."""

    text: str
    response_id: str
    """Of the answer with the call, or of the only one."""
    call: dict[str, Any] | None
    """The arguments of the tool; None where it was not called, or not with arguments that it takes."""
    version: str
    """The model's version, as it says itself."""


class Assistant:
    """Answers customers. May be used by several threads."""

    def __init__(self, client: openai.OpenAI, model: str) -> None:
        """`model`: the name at the endpoint."""
        self._client, self._model = client, model

    def answer(self, text: str, visit: str, customer: str) -> Reply:
        """One customer's request: the model calls the tool, reads its result, and tells the customer."""
        talk: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
        asked = {"model": self._model, "tools": [TOOL], "user": customer, "extra_headers": {"X-OEL-Session": visit}}
        first = self._client.chat.completions.create(messages=talk, **asked)
        message, version = first.choices[0].message, first.system_fingerprint or ""
        if not message.tool_calls:
            return Reply(message.content or "", first.id, None, version)
        talk.append(message.model_dump(include={"role", "content", "tool_calls"}))
        used = [_arguments(call.function.arguments) for call in message.tool_calls]
        for call, arguments in zip(message.tool_calls, used, strict=True):
            result = hand_over(**arguments) if arguments else "Error: the tool takes matter and desk."
            talk.append({"role": "tool", "tool_call_id": call.id, "content": result})
        pieces = self._client.chat.completions.create(messages=talk, stream=True, **asked)
        said = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        return Reply(said, first.id, used[0], version)


def _arguments(text: str) -> dict[str, str] | None:
    """The tool's arguments as the model wrote them, if the tool can be called with them."""
    try:
        values = json.loads(text)
    except ValueError:
        return None
    names = TOOL["function"]["parameters"]["required"]
    if not isinstance(values, dict) or set(values) != set(names):
        return None
    return {name: str(values[name]) for name in names}
