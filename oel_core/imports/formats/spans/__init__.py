"""Spans of OpenTelemetry, in the vocabularies that name what a model read and answered."""
