"""Spans in OTLP's JSON encoding (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from oel_core.imports.fields import mapping, number, sequence, text


@dataclass(frozen=True)
class Span:
    """What of a span is read."""

    trace: str
    id: str
    links: tuple[str, ...]
    """Ids of the spans that it is linked to."""
    attributes: Mapping[str, Any]
    events: tuple[tuple[str, Mapping[str, Any]], ...]
    """Name and attributes of each."""
    began: float
    """Nanoseconds since 1970, UTC; 0 where it is not said."""


def spans(entry: Any) -> list[Span]:
    """The spans of an export (`resourceSpans`), by their beginnings. Raises LineError: it is no export."""
    found = [
        _span(mapping(span, "spans"))
        for resource in sequence(mapping(entry, "").get("resourceSpans"), "resourceSpans")
        for scope in sequence(mapping(resource, "resourceSpans").get("scopeSpans"), "scopeSpans")
        for span in sequence(mapping(scope, "scopeSpans").get("spans"), "spans")
    ]
    return sorted(found, key=lambda span: span.began)


def _span(span: Mapping[str, Any]) -> Span:
    events = [mapping(event, "events") for event in sequence(span.get("events"), "events")]
    began = text(span.get("startTimeUnixNano"))
    links = [mapping(link, "links") for link in sequence(span.get("links"), "links")]
    return Span(
        text(span.get("traceId")),
        text(span.get("spanId")),
        tuple(text(link.get("spanId")) for link in links),
        dict(_attributes(span.get("attributes"))),
        tuple((text(event.get("name")), dict(_attributes(event.get("attributes")))) for event in events),
        (number(int(began)) or 0.0) if began.isascii() and began.isdigit() and len(began) < 30 else 0.0,
    )


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    for each in sequence(value, "attributes"):
        pair = mapping(each, "attributes")
        yield text(pair.get("key")), _value(mapping(pair.get("value") or {}, "attributes.value"))


def _value(value: Mapping[str, Any]) -> Any:
    """Integers are written as text, since JSON's numbers do not hold them."""
    for kind, held in value.items():
        if kind == "arrayValue":
            values = sequence(mapping(held, "arrayValue").get("values"), "arrayValue.values")
            return [_value(mapping(each, "arrayValue.values")) for each in values]
        if kind == "kvlistValue":
            return dict(_attributes(mapping(held, "kvlistValue").get("values")))
        return held
    return None
