"""Near-duplicates among sessions: Jaccard similarity of the word triples of what the users said.

Candidates come from MinHash with locality-sensitive hashing (Broder, "On the resemblance and containment of documents",
1997; datasketch), so that no session is compared with all others; each candidate is then compared exactly.
"""

import re
import unicodedata

from datasketch import MinHash, MinHashLSH

from oel_core.types import Trajectory

SHINGLE = 3
PERMUTATIONS = 128
SLACK = 0.2
"""How far below the threshold candidates are looked for: MinHash with 128 permutations errs by about 0.09."""
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f"
"""Scripts without spaces between words: each of their characters counts as one."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def asked(episode: Trajectory) -> str:
    """Everything that the user said in a session, each message once, in order."""
    said = dict.fromkeys(
        message.content for turn in episode.turns for message in turn.messages if message.role == "user"
    )
    return "\n".join(said)


def shingles(text: str) -> frozenset[str]:
    """The word triples of a text, regardless of case, width and punctuation; of a shorter text all its words as one."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    if len(words) <= SHINGLE:
        return frozenset([" ".join(words)] if words else [])
    return frozenset(" ".join(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Shared shingles by all shingles, in [0, 1]; 0 where there are none."""
    return len(first & second) / len(first | second) if first or second else 0.0


class NearDuplicates:
    """Texts that were seen, and which of them a new one nearly repeats."""

    def __init__(self, similar: float) -> None:
        """`similar`: Jaccard similarity from which two are near-duplicates."""
        self._similar, self._texts = similar, list[str]()
        self._lsh = MinHashLSH(threshold=max(0.1, similar - SLACK), num_perm=PERMUTATIONS)

    def add(self, text: str) -> list[int]:
        """Takes a text and returns the numbers of its near-duplicates among those before it, counted from 0."""
        found, number = shingles(text), len(self._texts)
        self._texts.append(text)
        if not found:
            return []
        signature = MinHash(num_perm=PERMUTATIONS)
        signature.update_batch([one.encode(errors="surrogatepass") for one in found])
        candidates = sorted(self._lsh.query(signature))
        self._lsh.insert(number, signature)
        return [one for one in candidates if jaccard(shingles(self._texts[one]), found) >= self._similar]
