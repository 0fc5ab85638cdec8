"""Detects personal data such as names and places with Presidio (https://microsoft.github.io/presidio/) and a spaCy
model; requires the extra `pii`. Nothing is downloaded.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from oel_core.config.knowledge import Check
from oel_core.errors import ConfigError
from oel_core.knowledge.hygiene.private import Found

PERSON, PLACE, OTHER = "a person's name", "a place", "personal data"
Find = Callable[[str], Sequence[Found]]
"""text → personal data in it, in addition to the patterns' findings."""
_WHAT = {"PERSON": PERSON, "LOCATION": PLACE}
_LEFT_TO_PATTERNS = ("EMAIL_ADDRESS", "URL", "DATE_TIME")
"""Not detected by Presidio: for email addresses it downloads a list of domains, and a pattern suffices; most dates are
not personal, and agents need them."""
_MIN_SCORE = 0.5
_MAX_CHARACTERS = 100_000
"""Maximum characters per call; spaCy's limit is a million."""


def find_nothing(text: str) -> Sequence[Found]:
    """The default `Find`: finds nothing."""
    return ()


@lru_cache(maxsize=1)
def finder(model: str) -> Find:
    """A `Find` for English texts, loaded once per process.

    Args:
        model: an installed spaCy model with named entities, such as `en_core_web_lg`, or its folder.

    Raises:
        ConfigError: Presidio or the model is not installed.
    """
    try:
        import spacy
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError as error:
        raise ConfigError(f"--pii needs Presidio ({error}): pip install 'oel[pii]'") from error
    if not (spacy.util.is_package(model) or Path(model).is_dir()):  # Presidio would download it
        raise ConfigError(
            f"--pii {model} is no installed spaCy model: python -m spacy download {model}, or name the folder of one"
        )
    try:
        engine = AnalyzerEngine(
            nlp_engine=SpacyNlpEngine(models=[{"lang_code": "en", "model_name": model}]), supported_languages=["en"]
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"--pii {model} cannot be loaded as a spaCy model: {error}") from error
    entities = sorted(set(engine.get_supported_entities("en")) - set(_LEFT_TO_PATTERNS))
    return lambda text: list(_found(engine, entities, text))


def _found(engine: Any, entities: list[str], text: str) -> Iterator[Found]:
    for start, piece in _pieces(text):
        for one in engine.analyze(text=piece, language="en", entities=entities, score_threshold=_MIN_SCORE):
            what = _WHAT.get(one.entity_type, OTHER)
            yield Found(Check.PERSONAL_DATA, what, start + one.start, start + one.end)


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Offset and text of chunks, split at line ends or spaces where possible."""
    begin = 0
    while begin < len(text):
        end = min(begin + _MAX_CHARACTERS, len(text))
        if end < len(text):
            ends = [match.end() for match in re.finditer(r"\s", text[begin:end])]
            end = begin + ends[-1] if ends else end
        yield begin, text[begin:end]
        begin = end
