"""The answer in a response that begins with thinking, if only its text is known."""

from collections.abc import Sequence

PAIRS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
)
"""How models mark the beginning and the end of their thinking."""


def answer_in(response: str, *, begun: bool = False, pairs: Sequence[tuple[str, str]] = PAIRS) -> str:
    """The text after the thinking; empty if the thinking never ended, the whole response if there is none.

    Thinking begins in the prompt or at the start of the response and ends at the first end marker; later markers belong
    to the answer.

    Args:
        begun: whether the prompt ends within thinking.
        pairs: start and end markers.
    """
    for opens, ends in pairs:
        if response.lstrip().startswith(opens) or (begun and ends in response):
            return response.partition(ends)[2]
    return "" if begun else response
