"""Imports logs of other programs as episodes of an inbox; start at `oel_core.imports.importing`."""
