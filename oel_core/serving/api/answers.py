"""Responses in the format of OpenAI's API: completions and streamed chunks."""

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from oel_core.serving.answering.base import Answer, Chunk

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Reply:
    """The fields that all parts of one response share."""

    model: str
    fingerprint: str
    """The version of the model."""
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(self, answer: Answer) -> dict[str, Any]:
        """An answer that is not streamed."""
        choice = {"index": 0, "message": answer.message, "finish_reason": answer.finish_reason, **answer.extra}
        return self._object("chat.completion") | {"choices": [choice], "usage": usage(answer)}

    def chunk(self, chunk: Chunk, *, first: bool) -> bytes:
        """A chunk as a server-sent event; the first one has the role."""
        delta = {"role": "assistant", **chunk.delta} if first else dict(chunk.delta)
        return event(self._body([{"index": 0, "delta": delta, "finish_reason": None, **chunk.extra}]))

    def ending(self, answer: Answer, *, first: bool, with_usage: bool) -> Iterator[bytes]:
        """The last chunks: finish reason, usage if asked for, [DONE]."""
        delta = {"role": "assistant", "content": ""} if first else {}
        yield event(self._body([{"index": 0, "delta": delta, "finish_reason": answer.finish_reason}]))
        if with_usage:
            yield event(self._body([]) | {"usage": usage(answer)})
        yield DONE

    def _body(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
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
    """The number of tokens of prompt and answer."""
    both = answer.prompt_tokens + answer.response_tokens
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.response_tokens,
        "total_tokens": both,
    }


def event(value: Mapping[str, Any]) -> bytes:
    """A server-sent event of one line; JSON escapes line breaks."""
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"
