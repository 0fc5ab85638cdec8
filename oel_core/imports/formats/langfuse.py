"""Langfuse exports (https://langfuse.com/docs/api-and-data-platform): traces with `observations` and `scores`, sessions
with `traces`, and separate scores or observations, one per entry or under `data`.

Inputs and outputs have no fixed form: messages, `{messages, tools}`, a text, a completion. Observations of type
GENERATION are calls. A score refers to an observation, trace or session; BOOLEAN is a thumb, CORRECTION a correction.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from oel_core.imports import chat
from oel_core.imports.fields import count, decoded, first, mapping, moment, number, sequence, text
from oel_core.imports.records import Call, Feedback, Rating
from oel_core.runs.jsonl import LineError
from oel_core.types import Message, StopReason

_SOURCES = {"ANNOTATION": "human", "EVAL": "judge"}
"""Sources of a score. API is usually a rating by the application's user, so it counts as human."""


def read(entry: Any) -> Iterator[Call | Rating]:
    """The calls of a trace, an observation or a session's traces, and scores."""
    row = mapping(entry, "")
    if "data" in row and "id" not in row:
        for each in sequence(row["data"], "data"):
            yield from read(each)
    elif "traces" in row:
        for each in sequence(row["traces"], "traces"):
            trace = mapping(each, "traces")
            yield from _trace(trace if trace.get("sessionId") else {**trace, "sessionId": row.get("id")})
        yield from _scores(row)
    elif "dataType" in row:
        yield _rating(row, {})
    elif "type" in row:
        yield from _observation(row, {})
    else:
        yield from _trace(row)


def _trace(trace: Mapping[str, Any]) -> Iterator[Call | Rating]:
    observations = [
        mapping(each, f"observations.{place}")
        for place, each in enumerate(sequence(trace.get("observations"), "observations"))
    ]
    observations.sort(key=lambda each: moment(each.get("startTime")) or 0.0)
    calls = [call for each in observations for call in _observation(each, trace)]
    if not calls:
        raise LineError("observations", "none is a GENERATION with messages and an answer")
    yield from calls
    yield from _scores(trace)


def _observation(seen: Mapping[str, Any], trace: Mapping[str, Any]) -> Iterator[Call]:
    asked, said = decoded(first(seen, "input")), decoded(first(seen, "output"))
    if seen.get("type") != "GENERATION" or asked is None or said is None:
        return
    usage = first(seen, "usageDetails", "usage")
    settings = seen.get("modelParameters")
    tools = [part.get("tools") for part in (asked, settings) if isinstance(part, Mapping)]
    response, stop = _answer(said)
    yield Call(
        id=text(seen.get("id")),
        trace=text(first(seen, "traceId") or first(trace, "id")),
        session=text(first(seen, "sessionId") or first(trace, "sessionId")),
        user=text(first(seen, "userId") or first(trace, "userId")),
        at=moment(first(seen, "startTime") or first(trace, "timestamp")),
        messages=chat.prompt(_messages(asked), next(filter(None, tools), None), "input"),
        response=response,
        model=text(first(seen, "model", "providedModelName")),
        prompt_tokens=count(usage.get("input")) if isinstance(usage, Mapping) else 0,
        stop_reason=stop,
    )


def _messages(asked: Any) -> list[Any]:
    """Parses messages, `{messages}`, `{system, prompt}`, or a user's text."""
    if isinstance(asked, list):
        return asked
    if isinstance(asked, Mapping):
        if "role" in asked:
            return [asked]
        said = first(asked, "messages", "prompt", "input")
        system = [{"role": "system", "content": asked["system"]}] if first(asked, "system") else []
        if said is not None:
            return [*system, *_messages(decoded(said))]
    if not isinstance(asked, str):
        raise LineError("input", "it has no messages")
    return [{"role": "user", "content": asked}]


def _answer(said: Any) -> tuple[Message, StopReason]:
    """Parses a message, the last one of a list, a completion with choices, or a text."""
    reason = None
    if isinstance(said, Mapping) and first(said, "choices"):
        said = mapping(sequence(said["choices"], "output.choices")[0], "output.choices.0")
        reason, said = said.get("finish_reason"), said.get("message")
    elif isinstance(said, Mapping) and "role" not in said:
        said = first(said, "messages", "message", "completion", "content", "text", "output") or said
    if isinstance(said, list) and said:
        said = said[-1]
    if isinstance(said, str):
        return Message(role="assistant", content=said), StopReason.EOS
    message = chat.message({"role": "assistant"} | dict(mapping(said, "output")), "output")
    return message, StopReason.LENGTH if reason == "length" else StopReason.EOS


def _scores(row: Mapping[str, Any]) -> Iterator[Rating]:
    for place, each in enumerate(sequence(row.get("scores"), "scores")):
        yield _rating(mapping(each, f"scores.{place}"), row)


def _rating(score: Mapping[str, Any], row: Mapping[str, Any]) -> Rating:
    ids = (score.get("observationId"), score.get("traceId"), score.get("sessionId"), row.get("id"))
    about = tuple(text(id) for id in ids if id)
    if not about:
        raise LineError("traceId", "it is missing: a score is about an observation, a trace or a session")
    kind, value, said = score.get("dataType"), number(score.get("value")), text(first(score, "stringValue"))
    said = said or (score["value"] if isinstance(score.get("value"), str) else "")
    return Rating(
        about=about,
        feedback=Feedback(
            source=_SOURCES.get(text(score.get("source")), "human"),  # type: ignore[arg-type]
            name=text(score.get("name")),
            score=value if kind in ("NUMERIC", None) else None,
            thumbs=bool(value) if kind == "BOOLEAN" and value is not None else None,
            label=said if kind == "CATEGORICAL" else "",
            comment="\n".join(filter(None, [said if kind == "TEXT" else "", text(score.get("comment"))])),
            correction=said if kind == "CORRECTION" else "",
        ),
    )
