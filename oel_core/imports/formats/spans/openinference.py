"""OpenInference's spans (https://github.com/Arize-ai/openinference/tree/main/spec): OTLP's JSON, one export per entry,
or Phoenix' export `{context, span_kind, attributes}`, one per entry or under `data`.

Attributes are flat (`llm.input_messages.0.message.role`) or nested; elements are ordered by their numbers. Annotations
of a span are feedback; an evaluator's span is feedback on the span that it links to.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from oel_core.imports import chat
from oel_core.imports.feedback import source
from oel_core.imports.fields import count, decoded, first, mapping, moment, number, sequence, text
from oel_core.imports.formats.spans.nested import nested
from oel_core.imports.formats.spans.otlp import Span, spans
from oel_core.imports.records import Call, Feedback, Rating
from oel_core.runs.jsonl import LineError
from oel_core.types import StopReason


def read(entry: Any) -> Iterator[Call | Rating]:
    """A call for each LLM span with recorded messages, and feedback of evaluators' spans."""
    found = _spans(mapping(entry, ""))
    for span in found:
        known = nested(span.attributes, "attributes")
        kind = text(_at(known, "openinference.span.kind")).upper()
        if kind == "LLM":
            yield _call(known, span)
        elif kind == "EVALUATOR" and span.links:
            about = tuple(filter(None, (span.links[0],)))
            yield from (Rating(about=about, feedback=one) for one in _feedback(known, "evaluation") if about)
        elif span.id or span.trace:
            about = tuple(filter(None, (span.id, span.trace)))
            yield from (Rating(about=about, feedback=one) for one in _feedback(known, "annotation"))


def _spans(entry: Mapping[str, Any]) -> Sequence[Span]:
    if "resourceSpans" in entry:
        return spans(entry)
    listed = sequence(entry.get("data"), "data") if "data" in entry else [entry]
    found = [_phoenix(mapping(each, "data")) for each in listed]
    return sorted(found, key=lambda span: span.began)


def _phoenix(span: Mapping[str, Any]) -> Span:
    context = mapping(span.get("context") or {}, "context")
    attributes = dict(mapping(span.get("attributes"), "attributes"))
    attributes.setdefault("openinference.span.kind", span.get("span_kind"))
    links = [mapping(link, "links") for link in sequence(span.get("links"), "links")]
    linked = [text(first(link, "span_id") or _at(link, "context.span_id")) for link in links]
    ids = (text(first(context, "trace_id")), text(first(context, "span_id")))
    return Span(*ids, tuple(linked), attributes, (), moment(span.get("start_time")) or 0.0)


def _call(known: Mapping[str, Any], span: Span) -> Call:
    messages = _messages(_at(known, "llm.input_messages"), "llm.input_messages")
    answers = _messages(_at(known, "llm.output_messages"), "llm.output_messages")
    if not messages or not answers:
        raise LineError("llm.input_messages", "the content is not recorded: let the instrumentation record it")
    ended = text(first(mapping(_at(known, "llm") or {}, "llm"), "finish_reason"))
    return Call(
        id=span.id,
        trace=span.trace,
        session=text(_at(known, "session.id")),
        user=text(_at(known, "user.id")),
        at=moment(span.began),
        messages=chat.prompt(messages, _tools(known), "llm.input_messages"),
        response=chat.message({"role": "assistant"} | answers[0], "llm.output_messages.0"),
        model=text(_at(known, "llm.model_name")),
        prompt_tokens=count(_at(known, "llm.token_count.prompt")),
        stop_reason=StopReason.LENGTH if ended == "length" else StopReason.EOS,
        feedback=tuple(_feedback(known, "annotation")),
    )


def _at(known: Mapping[str, Any], path: str) -> Any:
    value: Any = known
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _messages(value: Any, field: str) -> list[dict[str, Any]]:
    return [
        _message(mapping(mapping(each, f"{field}.{place}").get("message"), f"{field}.{place}.message"), field)
        for place, each in enumerate(sequence(value, field))
    ]


def _message(said: Mapping[str, Any], field: str) -> dict[str, Any]:
    parts = [mapping(part, f"{field}.contents") for part in sequence(said.get("contents"), f"{field}.contents")]
    calls = [mapping(call, f"{field}.tool_calls") for call in sequence(said.get("tool_calls"), f"{field}.tool_calls")]
    return {
        "role": said.get("role"),
        "content": [mapping(part.get("message_content"), f"{field}.contents") for part in parts]
        or first(said, "content"),
        "tool_calls": [call.get("tool_call") for call in calls],
        "tool_call_id": first(said, "tool_call_id"),
        "name": first(said, "name"),
    }


def _tools(known: Mapping[str, Any]) -> list[Any]:
    tools = [mapping(tool, "llm.tools") for tool in sequence(_at(known, "llm.tools"), "llm.tools")]
    return [decoded(_at(tool, "tool.json_schema")) for tool in tools if _at(tool, "tool.json_schema")]


def _feedback(known: Mapping[str, Any], kind: str) -> Iterator[Feedback]:
    """`kind` is `annotation` or `evaluation`, which have the same fields under `annotations` and `evaluations`."""
    for each in sequence(known.get(f"{kind}s"), f"{kind}s"):
        said = mapping(mapping(each, f"{kind}s").get(kind) or {}, f"{kind}s.{kind}")
        yield Feedback(
            source=source(said.get("annotator_kind"), "code"),  # type: ignore[arg-type]
            name=text(said.get("name")),
            score=number(said.get("score")),
            label=text(said.get("label")),
            comment=text(said.get("explanation")),
        )
