"""Similarity of texts: the Jaccard similarity of their word trigrams."""

import re
import unicodedata

SHINGLE = 3
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f"
"""Scripts without spaces between words; each character counts as a word."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def words(text: str) -> list[str]:
    """The words of a text in order, ignoring case, width and punctuation."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def shingles(text: str) -> frozenset[str]:
    """The word trigrams of a text; a shorter text is one shingle."""
    found = words(text)
    if len(found) <= SHINGLE:
        return frozenset([" ".join(found)] if found else [])
    return frozenset(" ".join(found[at : at + SHINGLE]) for at in range(len(found) - SHINGLE + 1))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Size of the intersection divided by size of the union, in [0, 1]; 0 if both are empty."""
    return len(first & second) / len(first | second) if first or second else 0.0
