"""Spans in OTLP's JSON encoding (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from oel_core.imports.fields import mapping, number, sequence, text


@dataclass(frozen=True)
class Span:
    """The fields of a span that are used."""

    trace: str
    id: str
    links: tuple[str, ...]
    """Ids of linked spans."""
    attributes: Mapping[str, Any]
    events: tuple[tuple[str, Mapping[str, Any]], ...]
    """Name and attributes of each."""
    began: float
    """Start time, nanoseconds since 1970, UTC; 0 if unknown."""


def spans(entry: Any) -> list[Span]:
    """The spans of an export (`resourceSpans`), sorted by start time. Raises LineError if it is no export."""
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
    """The value; OTLP encodes 64-bit integers as text."""
    for kind, held in value.items():
        if kind == "arrayValue":
            values = sequence(mapping(held, "arrayValue").get("values"), "arrayValue.values")
            return [_value(mapping(each, "arrayValue.values")) for each in values]
        if kind == "kvlistValue":
            return dict(_attributes(mapping(held, "kvlistValue").get("values")))
        return held
    return None
