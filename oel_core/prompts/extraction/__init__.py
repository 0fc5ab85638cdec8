"""Extraction formats, by name. One file a format: what the extractor is asked, how its answer is read and cut."""

from oel_core.errors import ConfigError
from oel_core.prompts.extraction import free_text, itemised
from oel_core.prompts.extraction.base import ExtractionFormat

FORMATS: dict[str, ExtractionFormat] = {
    "itemised": itemised.FORMAT,
    "free_text": free_text.FORMAT,
}


def get_format(name: str) -> ExtractionFormat:
    """The format of that name, or ConfigError with the known names."""
    if name not in FORMATS:
        raise ConfigError(f"unknown extraction format '{name}': known are {', '.join(FORMATS)}")
    return FORMATS[name]
