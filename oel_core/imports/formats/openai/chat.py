"""Logged chat completions: request and response pairs, also as LiteLLM (`StandardLoggingPayload`) and vLLM log them.

One call per entry: `{request: {messages, tools}, response: {choices}}`, or both in one object. A response may be a list
of a stream's chunks. Ids of sessions and users, and feedback, are also read from `metadata`. An entry with feedback and
the id of an answer or session, but no messages, is separately logged feedback.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from oel_core.imports import chat
from oel_core.imports.feedback import feedback
from oel_core.imports.fields import count, decoded, first, mapping, moment, sequence, text
from oel_core.imports.formats.openai.stream import joined
from oel_core.imports.records import Call, Rating
from oel_core.runs.jsonl import LineError
from oel_core.types import StopReason

_SESSION = ("session_id", "session", "conversation_id", "thread_id", "litellm_session_id", "chat_id")
_USER = ("user", "user_id", "end_user", "user_api_key_end_user_id")
_TIME = ("startTime", "start_time", "timestamp", "created_at", "created")
_ANSWER = ("response_id", "completion_id", "message_id", "id")
_CALL = ("request", "response", "messages", "choices")
_FEEDBACK = ("score", "rating", "thumbs", "thumb", "label", "comment", "correction", "expected", "rubric")
_REDACTED = "redacted-by-litellm"


def read(entry: Any) -> Iterator[Call | Rating]:
    """One call per choice of the response, or feedback."""
    logged = mapping(entry, "")
    if not any(name in logged for name in _CALL) and any(name in logged for name in ("feedback", *_FEEDBACK)):
        return _ratings(logged)
    return _calls(logged)


def _ratings(logged: Mapping[str, Any]) -> Iterator[Rating]:
    notes = logged.get("metadata")
    about = [text(first(logged, *_ANSWER)), text(_noted((logged, notes), *_SESSION))]
    if not any(about):
        raise LineError("response_id", "it is missing: feedback names the answer or the session that it is about")
    given = feedback(logged.get("feedback", logged), "feedback")
    yield from (Rating(about=tuple(filter(None, about)), feedback=one) for one in given)


def _noted(parts: Iterable[Any], *names: str) -> Any:
    """The first of these fields in the first part with one."""
    return next(filter(None, (first(part, *names) for part in parts if isinstance(part, Mapping))), None)


def _calls(logged: Mapping[str, Any]) -> Iterator[Call]:
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
            session=text(_noted((logged, *notes, request), *_SESSION)),
            user=text(_noted((request, logged, *notes), *_USER)),
            at=next((at for at in map(moment, (first(logged, *_TIME), response.get("created"))) if at), None),
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
