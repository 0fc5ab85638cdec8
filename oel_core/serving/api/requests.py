"""Parses the body of a chat completions request: the fields that the gateway itself uses."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from oel_core.imports import chat
from oel_core.projects.inbox import not_a_prompt
from oel_core.runs.jsonl import LineError
from oel_core.serving.answering.base import ChatRequest
from oel_core.serving.errors import ApiError
from oel_core.text.invalid import first_problem
from oel_core.types import Message

MAX_ID_LENGTH = 256
"""Characters of a session's or a user's id."""


def json_object(raw: bytes) -> dict[str, Any]:
    """The body as a JSON object. Raises ApiError if it is not UTF-8, not JSON or no object."""
    try:
        found = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ApiError(400, "the body is no JSON object")
    return found


def chat_request(raw: bytes, session: str) -> ChatRequest:
    """The request. The session's id is `session` (from the header), else `metadata.session_id`.

    Raises:
        ApiError: it is not a valid chat completions request, or asks for several answers.
    """
    body = json_object(raw)
    model = _typed(body, "model", str, "") or ""
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise ApiError(400, "messages must be a list of at least one message", param="messages")
    if body.get("n") not in (None, 1):
        raise ApiError(400, "n must be 1: the gateway gives one answer to a request", param="n")
    options = _typed(body, "stream_options", dict, {})
    metadata = body.get("metadata")
    named = metadata.get("session_id") if isinstance(metadata, Mapping) else None
    messages, problem = _prompt(body)
    return ChatRequest(
        body=body,
        model=model,
        messages=messages,
        stream=bool(_typed(body, "stream", bool, False)),
        with_usage=options.get("include_usage") is True,
        session=_id(session or named or "", "metadata.session_id"),
        user=_id(body.get("user") or body.get("safety_identifier") or "", "user"),
        not_recorded=problem,
    )


def _typed(body: Mapping[str, Any], name: str, kind: type, otherwise: Any) -> Any:
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        raise ApiError(400, f"{name} must be of type {kind.__name__}", param=name)
    return otherwise if value is None else value


def _id(name: object, param: str) -> str:
    if not isinstance(name, str) or len(name) > MAX_ID_LENGTH or not (name == "" or name.isprintable()):
        raise ApiError(400, f"an id is a text of at most {MAX_ID_LENGTH} characters", param=param)
    return name


def _prompt(body: Mapping[str, Any]) -> tuple[tuple[Message, ...], str | None]:
    """The messages; or none, and the reason why they cannot be used for training."""
    try:
        messages = chat.prompt(body["messages"], body.get("tools"), "messages")
    except LineError as error:
        return (), str(error)
    except ValidationError as error:
        field, reason = first_problem(error)
        return (), f"messages: {field}: {reason}"
    problem = not_a_prompt(messages)
    return ((), problem) if problem else (messages, None)
