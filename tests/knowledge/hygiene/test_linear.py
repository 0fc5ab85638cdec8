"""Screening takes time in proportion to the text, whatever somebody repeats in it.

The processor time of two lengths is compared: 32 times the text takes up to 32 times as long, and with the cheapest
quadratic pattern about 160 times. What else the machine does can only lengthen a measurement, so each length counts
with the least of its measurements, and they are repeated until the bound holds: a quadratic pattern never gets there,
and a busy machine needs a few more.
"""

import math
import time

import pytest

from oel_core.config.knowledge import HygieneConfig
from oel_core.knowledge.hygiene import inspect, private

DROP = HygieneConfig(policy="drop")
REPEATED = [
    "a.", "a-", "a@", "a:", " ", "#", "<", "<|", "&", "[", "[](a", "[a](", "ignorier", "password", "password=", "_",
    "eyJaaaaaaaa-", "eyJaaaaaaaa.", "www.", "sk-a-", "http://", "a://", "send to ", "send to a", "1 ", "+1 ", "(1",
    "4-", "AA11 ", "-----BEGIN ", "ignore all ", "never follow", "this item ", "reply ", "say ", "bearer ", "basic a",
    "a ", "x.com.", "\u0301", "\u200b", "a1B2", "- ", "'a",
]  # fmt: skip
BEGINNINGS = ["", "password", "eyJaaaaaaaa.", "-----BEGIN ", "a@", "www.", "bearer ", "do not tell", "send to "]


LENGTHENED = 32
BOUND = 2 * LENGTHENED


def seconds(repeated: str, times: int) -> float:
    """Processor time of screening one text that has every beginning once with so many repetitions."""
    text = "\n".join(begin + repeated * times for begin in BEGINNINGS)
    started = time.process_time()
    inspect(text, DROP)
    return time.process_time() - started


def in_proportion(repeated: str, tries: int = 10) -> bool:
    """Whether the longer text's least time is within the bound of the shorter one's."""
    few = 200 // len(repeated)
    short = long = math.inf
    for _ in range(tries):
        short, long = min(short, seconds(repeated, few)), min(long, seconds(repeated, LENGTHENED * few))
        if long < BOUND * short:
            return True
    return False


@pytest.mark.parametrize("repeated", REPEATED)
def test_time_grows_with_the_length(repeated: str) -> None:
    assert in_proportion(repeated)


def test_a_quadratic_pattern_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "_EMAIL", r"[\w.+-]+@[\w-]+\.[\w.-]+")
    assert not in_proportion("a.", tries=2)
