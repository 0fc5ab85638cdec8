"""Near-duplicate sessions: Jaccard similarity of word trigrams of the users' messages."""

from oel_core.text.shingles import jaccard, shingles
from oel_core.text.similar_sets import SimilarSets
from oel_core.types import Trajectory


def user_text(episode: Trajectory) -> str:
    """All user messages of a session, each once, in order."""
    said = dict.fromkeys(
        message.content for turn in episode.turns for message in turn.messages if message.role == "user"
    )
    return "\n".join(said)


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
