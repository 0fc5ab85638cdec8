"""Logged chat completions: request and response pairs, also as LiteLLM (`StandardLoggingPayload`) and vLLM log them.

One call an entry: `{request: {messages, tools}, response: {choices}}`, or both flat in one object. A response may be a
list of the chunks of a stream. Session ids and feedback are taken from `metadata`, where deployments put them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from oel_core.imports import chat
from oel_core.imports.feedback import feedback
from oel_core.imports.fields import count, decoded, first, mapping, sequence, text
from oel_core.imports.formats.openai_stream import joined
from oel_core.imports.records import Call
from oel_core.runs.jsonl import LineError
from oel_core.types import StopReason

_SESSION = ("session_id", "session", "conversation_id", "thread_id", "litellm_session_id", "chat_id")
_USER = ("user", "user_id", "end_user", "user_api_key_end_user_id")
_REDACTED = "redacted-by-litellm"


def read(entry: Any) -> Iterator[Call]:
    """One call for each choice of the response."""
    logged = mapping(entry, "")
    request = mapping(logged.get("request") or logged, "request")
    request = mapping(request.get("body") or request, "request.body")
    response = _response(logged)
    notes = [part for part in (logged.get("metadata"), request.get("metadata")) if isinstance(part, Mapping)]
    messages = chat.prompt(
        decoded(request.get("messages")),
        _tools(logged, request),
        "request.messages" if "request" in logged else "messages",
    )
    if any(_REDACTED in message.content for message in messages):
        raise LineError("messages", "the proxy redacted them: turn its redaction off to learn from its log")
    id = text(first(response, "id") or first(logged, "id", "request_id"))
    usage = response.get("usage")
    for number, choice in enumerate(sequence(response.get("choices"), "response.choices")):
        said = mapping(choice, f"response.choices.{number}")
        yield Call(
            id=id if number == 0 or not id else f"{id}#{number}",
            request=id,
            session=text(next(filter(None, (first(part, *_SESSION) for part in (logged, *notes, request))), None)),
            user=text(next(filter(None, (first(part, *_USER) for part in (request, logged, *notes))), None)),
            messages=messages,
            response=chat.message(
                {"role": "assistant"} | dict(mapping(said.get("message"), f"response.choices.{number}.message")),
                f"response.choices.{number}.message",
            ),
            model=text(first(request, "model") or first(response, "model")),
            prompt_tokens=count(usage.get("prompt_tokens")) if isinstance(usage, Mapping) else 0,
            stop_reason=StopReason.LENGTH if said.get("finish_reason") == "length" else StopReason.EOS,
            feedback=tuple(one for part in (logged, *notes) for one in feedback(part.get("feedback"), "feedback")),
        )


def _response(logged: Mapping[str, Any]) -> Mapping[str, Any]:
    if text(logged.get("status")) == "failure":
        raise LineError("status", "the call failed: there is no answer to learn from")
    value = decoded(logged.get("response"))
    if isinstance(value, list):
        return joined(value)
    response = mapping(value if value is not None else logged, "response")
    response = mapping(response.get("body") or response, "response.body")
    if not response.get("choices"):
        raise LineError("response.choices", "it has no choices: the call failed or its answer was not logged")
    return response


def _tools(logged: Mapping[str, Any], request: Mapping[str, Any]) -> Any:
    settings = logged.get("model_parameters")
    return first(request, "tools", "functions") or (
        first(settings, "tools", "functions") if isinstance(settings, Mapping) else None
    )
