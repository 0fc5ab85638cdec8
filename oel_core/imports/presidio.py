"""Names of people, places and more in texts, found by Presidio (https://microsoft.github.io/presidio/) with a spaCy
model; the extra `pii`. Nothing is downloaded.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from oel_core.config.knowledge import Check
from oel_core.errors import ConfigError
from oel_core.knowledge.hygiene.private import Found

PERSON, PLACE, OTHER = "a person's name", "a place", "personal data"
Find = Callable[[str], Sequence[Found]]
"""What of a text is personal, beside what the patterns find."""
_WHAT = {"PERSON": PERSON, "LOCATION": PLACE}
_LEFT_TO_PATTERNS = ("EMAIL_ADDRESS", "URL", "DATE_TIME")
"""An address is found by a pattern without Presidio's list of domains, which it would download; most dates are not
personal, and an agent cannot do without them."""
_LEAST_SCORE = 0.5
_LONGEST = 100_000
"""Characters that are looked through at once; spaCy takes a million."""


def nothing(text: str) -> Sequence[Found]:
    """Finds nothing."""
    return ()


def finder(model: str) -> Find:
    """A function that finds personal data in English texts.

    Args:
        model: an installed spaCy model with names, like `en_core_web_lg`, or the folder of one.

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
        for one in engine.analyze(text=piece, language="en", entities=entities, score_threshold=_LEAST_SCORE):
            what = _WHAT.get(one.entity_type, OTHER)
            yield Found(Check.PERSONAL_DATA, what, start + one.start, start + one.end)


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Offset and text of pieces that end where a line or a word does, if there is such a place."""
    begin = 0
    while begin < len(text):
        end = min(begin + _LONGEST, len(text))
        if end < len(text):
            ends = [match.end() for match in re.finditer(r"\s", text[begin:end])]
            end = begin + ends[-1] if ends else end
        yield begin, text[begin:end]
        begin = end
