"""The rate of repeated n-grams in responses."""

from collections.abc import Sequence

GRAM = 4
"""n, tokens."""


def repetition_rate(responses: Sequence[Sequence[int]]) -> float:
    """Share of the four-grams of all responses that occurred earlier in the same response; 0 if there are none."""
    total = repeated = 0
    for response in responses:
        grams = [tuple(response[start : start + GRAM]) for start in range(len(response) - GRAM + 1)]
        total += len(grams)
        repeated += len(grams) - len(set(grams))
    return repeated / total if total else 0.0
