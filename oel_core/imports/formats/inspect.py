"""Logs of Inspect (https://inspect.aisi.org.uk/eval-logs.html) as JSON (`inspect log dump`), or one sample per entry.

Long texts are in a sample's `attachments`, referenced as `attachment://<digest>`. Scores are feedback on the
conversation, with C, P, N and I as 1, 0.5, 0 and 0; the target is the expected answer.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from oel_core.imports import chat
from oel_core.imports.conversations import calls_of
from oel_core.imports.fields import first, mapping, moment, number, sequence, text
from oel_core.imports.records import Call, Feedback
from oel_core.runs.jsonl import LineError

_GRADES = {"C": 1.0, "P": 0.5, "N": 0.0, "I": 0.0}
_ATTACHMENT = "attachment://"
_MAX_DEPTH = 40


def read(entry: Any) -> Iterator[Call]:
    """The calls of a log's samples, or of a sample."""
    row = mapping(entry, "")
    if "samples" in row:
        model = text(mapping(row.get("eval") or {}, "eval").get("model"))
        for place, each in enumerate(sequence(row["samples"], "samples")):
            yield from _sample(mapping(each, f"samples.{place}"), model, f"samples.{place}")
    elif "messages" in row:
        yield from _sample(row, "", "")
    else:
        raise LineError("samples", "it is missing, and so is messages: this is neither a log nor a sample")


def _sample(sample: Mapping[str, Any], model: str, field: str) -> Iterator[Call]:
    held = mapping(sample.get("attachments") or {}, f"{field}.attachments")
    raw = _resolved(sequence(sample.get("messages"), f"{field}.messages"), held, 0)
    messages = [_message(mapping(each, f"{field}.messages.{place}")) for place, each in enumerate(raw)]
    prompt = chat.prompt(messages, _tools(sample, held), f"{field}.messages")
    given_as_input = [
        place + len(prompt) - len(raw) for place, each in enumerate(raw) if mapping(each, "").get("source") == "input"
    ]
    id = text(first(sample, "uuid")) or f"{text(sample.get('id'))}.{text(sample.get('epoch'))}"
    answered = mapping(sample.get("output") or {}, f"{field}.output")
    feedback = list(_feedback(_resolved(sample.get("scores") or {}, held, 0), f"{field}.scores"))
    target = sample.get("target")
    expected = text(target[0] if isinstance(target, list) and len(target) == 1 else target or None)
    if expected:
        feedback.append(Feedback(source="code", whole=True, name="target", expected=expected))
    for call in calls_of(prompt, id, session=id, feedback=feedback, left_out=given_as_input):
        named = text(first(answered, "model")) or model
        yield call.model_copy(update={"model": named, "at": moment(sample.get("started_at"))})


def _resolved(value: Any, held: Mapping[str, Any], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise LineError("messages", f"they are nested more than {_MAX_DEPTH} deep")
    if isinstance(value, str) and value.startswith(_ATTACHMENT):
        name = value.removeprefix(_ATTACHMENT)
        if name not in held:
            raise LineError("attachments", "a text that a message refers to is missing")
        return held[name]
    if isinstance(value, list):
        return [_resolved(each, held, depth + 1) for each in value]
    if isinstance(value, Mapping):
        return {name: _resolved(each, held, depth + 1) for name, each in value.items()}
    return value


def _message(said: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a message; Inspect's calls have the name in `function`, and reasoning is left out."""
    calls = [mapping(call, "messages.tool_calls") for call in sequence(said.get("tool_calls"), "messages.tool_calls")]
    content = said.get("content")
    if isinstance(content, list):
        content = [part for part in content if not (isinstance(part, Mapping) and part.get("type") == "reasoning")]
    return {
        "role": said.get("role"),
        "content": content,
        "tool_call_id": said.get("tool_call_id"),
        "tool_calls": [
            {"id": call.get("id"), "name": call.get("function"), "arguments": call.get("arguments")} for call in calls
        ],
    }


def _tools(sample: Mapping[str, Any], held: Mapping[str, Any]) -> Any:
    """The tools of the first model request, if the log has events."""
    events = [event for event in sequence(sample.get("events"), "events") if isinstance(event, Mapping)]
    asked = next((event for event in events if event.get("event") == "model" and event.get("tools")), None)
    return None if asked is None else _resolved(asked["tools"], held, 0)


def _feedback(scores: Any, field: str) -> Iterator[Feedback]:
    for name, each in mapping(scores, field).items():
        score = mapping(each, f"{field}.{name}")
        value = score.get("value")
        known = _GRADES.get(value) if isinstance(value, str) else None if isinstance(value, bool) else number(value)
        yield Feedback(
            source="code",
            whole=True,
            name=name,
            score=known,
            thumbs=value if isinstance(value, bool) else None,
            label="" if known is not None or isinstance(value, bool) else text(value),
            comment=text(score.get("explanation")),
        )
