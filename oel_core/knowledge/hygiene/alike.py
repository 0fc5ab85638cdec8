"""An index of items that finds the first near-duplicate of a text without comparing it with all of them."""

from collections import defaultdict

from oel_core.knowledge.hygiene.shape import distinguishing_tokens, near_duplicate, word_pairs
from oel_core.text.similar_sets import SimilarSets

MANY = 200
"""Texts with the same distinguishing tokens from which on only candidates of MinHash are compared."""


class Alike:
    """Texts by number, in the order in which they are added. See `near_duplicate` for what is one.

    Only texts with the same quoted symbols, numbers and negations are compared. Among up to `MANY` of these the result
    is exact; among more a near-duplicate close to the threshold may be missed, and none is invented.
    """

    def __init__(self, threshold: float) -> None:
        """`threshold`: minimum Jaccard similarity of the word pairs of near-duplicates."""
        self._threshold = threshold
        self._groups = defaultdict[object, dict[int, str]](dict)
        self._sets = dict[object, SimilarSets]()

    def add(self, number: int, text: str) -> None:
        """Adds a text under a number greater than all before."""
        key = distinguishing_tokens(text)
        group = self._groups[key]
        group[number] = text
        if len(group) > MANY and key not in self._sets:
            self._sets[key] = SimilarSets(self._threshold)
            for one, other in group.items():
                self._sets[key].add(one, word_pairs(other))
        elif key in self._sets:
            self._sets[key].add(number, word_pairs(text))

    def first(self, text: str) -> int | None:
        """The lowest number of a near-duplicate; None if there is none."""
        key = distinguishing_tokens(text)
        group = self._groups.get(key, {})
        candidates = self._sets[key].candidates(word_pairs(text)) if key in self._sets else group
        return next((one for one in candidates if near_duplicate(text, group[one], self._threshold)), None)
