"""Feedback about a call, from none to the right call."""

from collections.abc import Sequence
from typing import Literal

from oel_core.envs.tools.surface import CallError

Feedback = Literal["none", "thumbs", "error", "usage", "correction"]
OTHER_CALL = "that was done, but it is not what was asked for"
OTHER_PENDING = "that waits for a confirmation, but it is not what was asked for"
STILL_PENDING = "nothing was done: it waits for a confirmation"
NOTHING_PENDING = "there is nothing like that to confirm"


def in_order(calls: Sequence[str]) -> str:
    """Calls as one line of text."""
    return ", then ".join(calls)


def tool_answer(mode: Feedback, error: CallError) -> str:
    """The tool's response to a wrong call during the episode."""
    if mode == "none":
        return "Next try."
    if mode == "thumbs":
        return "That was wrong."
    said = f"Error: {error.message}"
    return f"{said}\n{error.usage}" if mode == "usage" and error.usage else said


def final_feedback(mode: Feedback, *, passed: bool, reason: str, usage: str, right: Sequence[str]) -> str:
    """How the episode ended, for the extractor.

    Args:
        reason: why the last call failed.
        usage: its usage line, or an empty string.
        right: the right calls for the last request, in order.
    """
    if mode == "none":
        return "The episode is over."
    if passed:
        return "Success: everything was done as asked."
    if mode == "correction":
        were = "call was" if len(right) == 1 else "calls were"
        return f"Failure: {reason}. The right {were}: {in_order(right)}"
    if mode == "thumbs":
        return "Failure: that was wrong."
    return f"Failure: {reason}. {usage}" if mode == "usage" and usage else f"Failure: {reason}."
