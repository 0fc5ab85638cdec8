"""Near-duplicate sessions: Jaccard similarity of word trigrams of the users' messages."""

import re
import unicodedata

from oel_core.text.similar_sets import SimilarSets
from oel_core.types import Trajectory

SHINGLE = 3
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f"
"""Scripts without spaces between words; each character counts as a word."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def user_text(episode: Trajectory) -> str:
    """All user messages of a session, each once, in order."""
    said = dict.fromkeys(
        message.content for turn in episode.turns for message in turn.messages if message.role == "user"
    )
    return "\n".join(said)


def shingles(text: str) -> frozenset[str]:
    """The word trigrams of a text, ignoring case, width and punctuation; a shorter text is one shingle."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    if len(words) <= SHINGLE:
        return frozenset([" ".join(words)] if words else [])
    return frozenset(" ".join(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Size of the intersection divided by size of the union, in [0, 1]; 0 if both are empty."""
    return len(first & second) / len(first | second) if first or second else 0.0


class NearDuplicates:
    """An index of texts that finds near-duplicates of new ones."""

    def __init__(self, similar: float) -> None:
        """`similar`: minimum Jaccard similarity of near-duplicates."""
        self._similar, self._texts = similar, list[str]()
        self._sets = SimilarSets(similar)

    def add(self, text: str) -> list[int]:
        """Adds a text and returns the indices (from 0) of earlier near-duplicates."""
        found, number = shingles(text), len(self._texts)
        self._texts.append(text)
        if not found:
            return []
        candidates = self._sets.candidates(found)
        self._sets.add(number, found)
        return [one for one in candidates if jaccard(shingles(self._texts[one]), found) >= self._similar]
