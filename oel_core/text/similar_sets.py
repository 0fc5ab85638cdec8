"""Candidates for similar sets: MinHash with locality-sensitive hashing (Broder, "On the resemblance and containment of
documents", 1997; datasketch). Candidates are to be compared exactly."""

from collections.abc import Iterable

from datasketch import MinHash, MinHashLSH

PERMUTATIONS = 128
SLACK = 0.2
"""Margin below the threshold for candidates: the standard error of MinHash with 128 permutations is about 0.09."""


class SimilarSets:
    """An index of sets of strings by number."""

    def __init__(self, similar: float) -> None:
        """`similar`: Jaccard similarity from which a set is nearly always found."""
        self._lsh = MinHashLSH(threshold=max(0.1, similar - SLACK), num_perm=PERMUTATIONS)

    def candidates(self, members: Iterable[str]) -> list[int]:
        """The numbers of sets that may be similar, in ascending order."""
        return sorted(self._lsh.query(_signature(members)))

    def add(self, number: int, members: Iterable[str]) -> None:
        """Adds a set under a number that is new."""
        self._lsh.insert(number, _signature(members))


def _signature(members: Iterable[str]) -> MinHash:
    signature = MinHash(num_perm=PERMUTATIONS)
    signature.update_batch([member.encode(errors="surrogatepass") for member in members])
    return signature
