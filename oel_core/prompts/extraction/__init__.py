"""Extraction formats by name: the extractor's instructions, and how its output is parsed and truncated. One file a
format."""

from oel_core.plugins.builtin import FORMATS
from oel_core.prompts.extraction.base import ExtractionFormat


def get_format(name: str) -> ExtractionFormat:
    """The format of that name. ConfigError lists the known names."""
    form: ExtractionFormat = FORMATS.load(name)
    return form
