"""Server-sent events of a streamed completion (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from collections.abc import AsyncIterator
from typing import Any

from pydantic_core import from_json

MAX_LINE_BYTES = 16 * 2**20
"""Bytes of one line."""


async def chunks(parts: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of a stream up to `[DONE]` or its end.

    Lines end in LF or CR LF only, since JSON may contain other line separators of Unicode.

    Raises:
        ValueError: a line is too long or its value is no JSON object.
    """
    buffer = b""
    async for part in parts:
        *lines, buffer = (buffer + part).split(b"\n")
        if len(buffer) > MAX_LINE_BYTES:
            raise ValueError(f"a line of more than {MAX_LINE_BYTES} bytes")
        for line in lines:
            name, _, value = line.partition(b":")
            if name != b"data":
                continue
            if value.strip() == b"[DONE]":
                return
            yield _object(value)


def _object(text: bytes) -> dict[str, Any]:
    found = from_json(text)
    if not isinstance(found, dict):
        raise ValueError("an event that is no JSON object")
    return found
