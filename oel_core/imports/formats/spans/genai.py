"""OpenTelemetry's semantic conventions for generative AI (https://opentelemetry.io/docs/specs/semconv/gen-ai/), in
OTLP's JSON: one export per entry.

Content is present if the instrumentation records it: `gen_ai.input.messages` and `gen_ai.output.messages` are
attributes of the span or of its event `gen_ai.client.inference.operation.details`. Evaluation results are read from the
span's events.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from oel_core.imports import chat
from oel_core.imports.fields import count, decoded, first, mapping, moment, number, sequence, text
from oel_core.imports.formats.spans.otlp import Span, spans
from oel_core.imports.records import Call, Feedback
from oel_core.runs.jsonl import LineError
from oel_core.types import StopReason

_DETAILS, _EVALUATION = "gen_ai.client.inference.operation.details", "gen_ai.evaluation.result"
_OPERATIONS = ("chat", "text_completion", "generate_content")


def read(entry: Any) -> Iterator[Call]:
    """A call for each inference span with recorded messages."""
    found = spans(entry)
    if not found:
        raise LineError("resourceSpans", "it has no spans")
    for span in found:
        known = dict(span.attributes)
        for name, attributes in span.events:
            known |= attributes if name == _DETAILS else {}
        if text(known.get("gen_ai.operation.name")) in _OPERATIONS:
            yield _call(known, span)


def _call(known: Mapping[str, Any], span: Span) -> Call:
    messages = [*_instructions(known), *_messages(known.get("gen_ai.input.messages"), "gen_ai.input.messages")]
    answers = sequence(known.get("gen_ai.output.messages"), "gen_ai.output.messages")
    if not messages or not answers:
        raise LineError("gen_ai.input.messages", "the content is not recorded: let the instrumentation record it")
    answer = mapping(answers[0], "gen_ai.output.messages.0")
    (said,) = _messages([answer], "gen_ai.output.messages")[:1] or [{}]
    return Call(
        id=text(known.get("gen_ai.response.id")),
        session=text(known.get("gen_ai.conversation.id")),
        trace=span.trace,
        user=text(first(known, "user.id", "enduser.id")),
        at=moment(span.began),
        messages=chat.prompt(messages, known.get("gen_ai.tool.definitions"), "gen_ai.input.messages"),
        response=chat.message({"role": "assistant"} | said, "gen_ai.output.messages.0"),
        model=text(first(known, "gen_ai.response.model", "gen_ai.request.model")),
        prompt_tokens=count(known.get("gen_ai.usage.input_tokens")),
        stop_reason=StopReason.LENGTH if answer.get("finish_reason") == "length" else StopReason.EOS,
        feedback=tuple(_evaluation(attributes) for name, attributes in span.events if name == _EVALUATION),
    )


def _instructions(known: Mapping[str, Any]) -> list[dict[str, Any]]:
    parts = sequence(known.get("gen_ai.system_instructions"), "gen_ai.system_instructions")
    said = "".join(text(mapping(part, "gen_ai.system_instructions").get("content")) for part in parts)
    return [{"role": "system", "content": said}] if said else []


def _messages(value: Any, field: str) -> list[dict[str, Any]]:
    """The messages in OpenAI's format; each tool result is a separate message."""
    found: list[dict[str, Any]] = []
    for place, each in enumerate(sequence(value, field)):
        said = mapping(each, f"{field}.{place}")
        parts = [
            mapping(part, f"{field}.{place}.parts") for part in sequence(said.get("parts"), f"{field}.{place}.parts")
        ]
        results = [part for part in parts if part.get("type") == "tool_call_response"]
        for part in results:
            content = text(first(part, "response", "result"))
            found.append({"role": "tool", "tool_call_id": text(part.get("id")), "content": content})
        if len(results) < len(parts) or not results:
            found.append({"role": said.get("role")} | _spoken(parts, f"{field}.{place}.parts"))
    return found


def _spoken(parts: Sequence[Mapping[str, Any]], field: str) -> dict[str, Any]:
    content, calls = [], []
    for part in parts:
        kind = part.get("type")
        if kind == "text":
            content.append(text(part.get("content")))
        elif kind == "tool_call":
            calls.append({name: part.get(name) for name in ("id", "name", "arguments")})
        elif kind not in ("tool_call_response", "reasoning"):
            raise LineError(field, "a part of the message is no text: only text can be learned from")
    return {"content": "".join(content), "tool_calls": calls}


def _evaluation(attributes: Mapping[str, Any]) -> Feedback:
    """The evaluator is unknown, so the source is code."""
    return Feedback(
        source="code",
        name=text(attributes.get("gen_ai.evaluation.name")),
        score=number(decoded(attributes.get("gen_ai.evaluation.score.value"))),
        label=text(attributes.get("gen_ai.evaluation.score.label")),
        comment=text(attributes.get("gen_ai.evaluation.explanation")),
    )
