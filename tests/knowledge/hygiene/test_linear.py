"""Screening takes time in proportion to the text, whatever somebody repeats in it.

Processor time of two lengths is compared within one run: 16 times the text takes about 16 times as long, and with
one quadratic pattern 256 times. The bound lies at their geometric mean.
"""

import time

import pytest

from oel_core.config.knowledge import HygieneConfig
from oel_core.knowledge.hygiene import inspect

DROP = HygieneConfig(policy="drop")
REPEATED = [
    "a.", "a-", "a@", "a:", " ", "#", "<", "<|", "&", "[", "[](a", "[a](", "ignorier", "password", "password=", "_",
    "eyJaaaaaaaa-", "eyJaaaaaaaa.", "www.", "sk-a-", "http://", "a://", "send to ", "send to a", "1 ", "+1 ", "(1",
    "4-", "AA11 ", "-----BEGIN ", "ignore all ", "never follow", "this item ", "reply ", "say ", "bearer ", "basic a",
    "a ", "x.com.", "\u0301", "\u200b", "a1B2", "- ", "'a",
]  # fmt: skip
BEGINNINGS = ["", "password", "eyJaaaaaaaa.", "-----BEGIN ", "a@", "www.", "bearer ", "do not tell", "send to "]


def seconds(repeated: str, times: int) -> float:
    """The lesser of two, for every beginning once with so many repetitions."""
    text = "\n".join(begin + repeated * times for begin in BEGINNINGS)
    found = []
    for _ in range(2):
        started = time.process_time()
        inspect(text, DROP)
        found.append(time.process_time() - started)
    return min(found)


@pytest.mark.parametrize("repeated", REPEATED)
def test_time_grows_with_the_length(repeated: str) -> None:
    few = 200 // len(repeated)
    assert seconds(repeated, 16 * few) < 64 * seconds(repeated, few)
