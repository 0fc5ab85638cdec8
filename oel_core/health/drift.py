"""Tests of two groups of sessions: do they ask the same, and are they answered as well?"""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from oel_core.gate.evidence import log_evidence

DIMENSIONS = 512
"""Of the vectors of word counts; words are spread over them by a hash."""
PERMUTATIONS = 4_999
_WORD = re.compile(r"[^\W\d_]+")


def fewer_right(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Probability of so few right answers after, or fewer, if both groups have the same rate (Fisher's exact test)."""
    from scipy.stats import fisher_exact

    table = [[sum(before), len(before) - sum(before)], [sum(after), len(after) - sum(after)]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def evidence_of_worse(before: Sequence[bool], after: Sequence[bool], margin: float) -> float:
    """Natural logarithm of the evidence that the second rate is lower by more than the margin.

    It may be looked at again with every new session (`oel_core.gate.evidence`): the n-th last session of the one group
    and the n-th of the other are a pair.
    """
    pairs = list(zip(reversed(before), after, strict=False))
    values = np.array([float(first) - float(second) - margin for first, second in pairs])
    return log_evidence(values, -1.0 - margin)


def other_requests(before: Sequence[str], after: Sequence[str]) -> float:
    """Probability of requests as different, or more, if both groups were drawn from the same (permutation test).

    The statistic is the squared distance between the mean vectors of word counts, each of length 1: the maximum mean
    discrepancy with a linear kernel (Gretton et al., "A kernel two-sample test", JMLR 13, 2012). Numbers do not count.
    """
    vectors = np.stack([_vector(text) for text in (*before, *after)])
    first = np.zeros(len(vectors))
    first[: len(before)] = 1.0
    draws = np.random.default_rng(0).permuted(np.tile(first, (PERMUTATIONS + 1, 1)), axis=1)
    draws[0] = first
    weights = draws / len(before) - (1.0 - draws) / len(after)
    distances = np.square(weights @ vectors).sum(axis=1)
    return float(np.mean(distances >= distances[0] - 1e-12))


def _vector(text: str) -> NDArray[np.float64]:
    counts = np.zeros(DIMENSIONS)
    for word in _WORD.findall(text.casefold()):
        digest = hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=4).digest()
        counts[int.from_bytes(digest, "big") % DIMENSIONS] += 1.0
    length = float(np.linalg.norm(counts))
    return counts / length if length else counts
