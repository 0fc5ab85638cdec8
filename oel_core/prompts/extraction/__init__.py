"""Extraction formats by name: what the extractor is asked, how its answer is read and cut. One file a format."""

from oel_core.plugins.builtin import FORMATS
from oel_core.prompts.extraction.base import ExtractionFormat


def get_format(name: str) -> ExtractionFormat:
    """The format of that name, or ConfigError with the known names."""
    form: ExtractionFormat = FORMATS.load(name)
    return form
