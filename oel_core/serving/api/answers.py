"""Completions and chunks of streams as OpenAI's API writes them."""

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from oel_core.serving.answering.base import Answer, Piece

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Reply:
    """What all parts of one answer have in common."""

    model: str
    fingerprint: str
    """The version of the model."""
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(self, answer: Answer) -> dict[str, Any]:
        """An answer that is not streamed."""
        choice = {"index": 0, "message": answer.message, "finish_reason": answer.finish_reason, **answer.more}
        return self._object("chat.completion") | {"choices": [choice], "usage": usage(answer)}

    def piece(self, piece: Piece, *, first: bool) -> bytes:
        """A chunk; the first one says whose message it is."""
        delta = {"role": "assistant", **piece.delta} if first else dict(piece.delta)
        return event(self._chunk([{"index": 0, "delta": delta, "finish_reason": None, **piece.more}]))

    def ending(self, answer: Answer, *, first: bool, with_usage: bool) -> Iterator[bytes]:
        """The chunks that say that the answer is whole."""
        delta = {"role": "assistant", "content": ""} if first else {}
        yield event(self._chunk([{"index": 0, "delta": delta, "finish_reason": answer.finish_reason}]))
        if with_usage:
            yield event(self._chunk([]) | {"usage": usage(answer)})
        yield DONE

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self._object("chat.completion.chunk") | {"choices": choices}

    def _object(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def usage(answer: Answer) -> dict[str, int]:
    """Tokens of prompt and answer."""
    both = answer.prompt_tokens + answer.response_tokens
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.response_tokens,
        "total_tokens": both,
    }


def event(value: Mapping[str, Any]) -> bytes:
    """A server-sent event. JSON escapes line ends, so it is one line."""
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"
