"""MLflow traces from `trace.to_json()` (trace schema 3), or rows of `search_traces` with the trace as JSON.

Every span of a chat model with its messages is a call. Attributes are JSON-encoded text; truncated previews are not
read. A judge's own trace (`mlflow.trace.sourceScorer`) is rejected.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import from_json

from oel_core.imports import chat
from oel_core.imports.feedback import source
from oel_core.imports.fields import decoded, first, mapping, moment, number, sequence, text
from oel_core.imports.records import Call, Feedback
from oel_core.runs.jsonl import LineError
from oel_core.types import Message

_MODELS = ("CHAT_MODEL", "LLM")
_JUDGE = "mlflow.trace.sourceScorer"
_YES_NO = {"yes": True, "no": False}
"""Values of MLflow's judges → thumb."""
_RUBRICS = ("guidelines", "expected_facts")
"""Names of MLflow's expectations that are criteria, not reference answers."""
_Feedback = list[tuple[str, Feedback]]
"""Id of the span (empty for the trace) and the feedback on it."""


def read(entry: Any) -> Iterator[Call]:
    """The calls of a trace, sorted by start time; feedback on the trace is attached to the last one."""
    row = mapping(entry, "")
    trace = mapping(row["trace"], "trace") if row.get("trace") else row
    info = mapping(trace.get("info"), "info")
    notes, tags = (mapping(info.get(name) or {}, f"info.{name}") for name in ("trace_metadata", "tags"))
    if _JUDGE in notes or _JUDGE in tags:
        raise LineError("info", "it is a judge's own trace")
    given = assessments(info.get("assessments"))
    shared = {
        "session": text(notes.get("mlflow.trace.session")),
        "user": text(notes.get("mlflow.trace.user")),
        "trace": text(info.get("trace_id")),
        "at": moment(info.get("request_time")),
    }
    spans = sequence(mapping(trace.get("data"), "data").get("spans"), "data.spans")
    calls = [(id, call.model_copy(update=shared)) for id, call in _calls(spans)]
    if not calls:
        raise LineError("data.spans", "none is of a chat model, with messages and an answer")
    known = {id for id, _ in calls}
    for place, (id, call) in enumerate(calls):
        rest = place == len(calls) - 1
        mine = tuple(one for about, one in given if about == id or (rest and about not in known))
        yield call.model_copy(update={"feedback": mine})


def _calls(spans: Any) -> Iterator[tuple[str, Call]]:
    found = [mapping(span, f"data.spans.{place}") for place, span in enumerate(spans)]
    for span in sorted(found, key=lambda span: number(span.get("start_time_unix_nano")) or 0.0):
        attributes = mapping(span.get("attributes") or {}, "data.spans.attributes")
        inputs, outputs = (_attribute(attributes, f"mlflow.{name}") for name in ("spanInputs", "spanOutputs"))
        model = _attribute(attributes, "mlflow.spanType") in _MODELS
        if not model or not isinstance(inputs, Mapping) or not first(inputs, "messages") or not outputs:
            continue
        tools = _attribute(attributes, "mlflow.chat.tools") or first(inputs, "tools")
        id = _span(text(span.get("span_id")))
        yield (
            id,
            Call(
                id=id,
                messages=chat.prompt(inputs["messages"], tools, "mlflow.spanInputs.messages"),
                response=_answer(outputs),
                model=text(_attribute(attributes, "mlflow.llm.model") or first(inputs, "model")),
            ),
        )


def _attribute(attributes: Mapping[str, Any], name: str) -> Any:
    value = attributes.get(name)
    if not isinstance(value, str):
        return value
    try:
        return from_json(value, allow_inf_nan=False)
    except ValueError:
        return value


def _answer(outputs: Any) -> Message:
    """Parses a response with choices, the last one of a list of messages, a message, or text."""
    field = "mlflow.spanOutputs"
    value = decoded(outputs)
    if isinstance(value, Mapping):
        choices = sequence(value.get("choices"), f"{field}.choices")
        said = sequence(value.get("messages"), f"{field}.messages")
        if choices:
            value = mapping(choices[0], f"{field}.choices.0").get("message")
        elif said:
            value = said[-1]
    if isinstance(value, str):
        return Message(role="assistant", content=value)
    return chat.message({"role": "assistant"} | dict(mapping(value, field)), field)


def assessments(given: Any) -> _Feedback:
    """The feedback in `info.assessments` of a trace, in its order.

    Raises:
        LineError: it is no list of assessments.
    """
    found = sequence(given, "info.assessments")
    rows = [mapping(each, f"info.assessments.{place}") for place, each in enumerate(found)]
    overridden = {text(row["overrides"]) for row in rows if row.get("overrides")}
    return [_assessment(row, text(row.get("assessment_id")) in overridden) for row in rows]


def _assessment(row: Mapping[str, Any], overridden: bool) -> tuple[str, Feedback]:
    kind = text(mapping(row.get("source") or {}, "info.assessments.source").get("source_type"))
    who = source("judge" if kind.endswith("JUDGE") else kind, "code")
    value = mapping(row.get("feedback") or {}, "info.assessments.feedback").get("value")
    expectation = mapping(row.get("expectation") or {}, "info.assessments.expectation")
    serialized = mapping(expectation.get("serialized_value") or {}, "info.assessments.expectation.serialized_value")
    expected, name = text(first(expectation, "value") or first(serialized, "value")), text(row.get("assessment_name"))
    thumbs = value if isinstance(value, bool) else _YES_NO.get(value.lower()) if isinstance(value, str) else None
    return _span(text(row.get("span_id"))), Feedback(
        source=who,  # type: ignore[arg-type]
        name=name,
        score=None if isinstance(value, bool) else number(value),
        thumbs=thumbs,
        label=text(value) if thumbs is None and number(value) is None else "",
        comment=text(row.get("rationale")),
        expected="" if name in _RUBRICS else expected,
        rubric=expected if name in _RUBRICS else "",
        superseded=row.get("valid") is False or overridden,
    )


def _span(id: str) -> str:
    """The id in hexadecimal; spans have base64, assessments hexadecimal."""
    try:
        return base64.b64decode(id, validate=True).hex() if id.endswith("=") else id
    except (binascii.Error, ValueError):
        return id
