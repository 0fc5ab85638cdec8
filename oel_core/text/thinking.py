"""The answer in a response that begins with thinking, where only its text is known."""

from collections.abc import Sequence

PAIRS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
)
"""How models mark the beginning and the end of their thinking."""


def answer_in(response: str, *, begun: bool = False, pairs: Sequence[tuple[str, str]] = PAIRS) -> str:
    """What follows the thinking; empty where that never ended, the whole response where there is none.

    Thinking begins in the prompt or with the response, and its first end is its end: later markers are quoted ones.

    Args:
        begun: the prompt has begun it.
        pairs: markers that count.
    """
    for opens, ends in pairs:
        if response.lstrip().startswith(opens) or (begun and ends in response):
            return response.partition(ends)[2]
    return "" if begun else response
