"""OpenTelemetry spans in the semantic conventions for model calls."""
