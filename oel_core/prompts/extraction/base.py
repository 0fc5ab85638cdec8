"""What an extraction format is, and the transcript that every format shows."""

from collections.abc import Callable
from dataclasses import dataclass

from oel_core.types import Message, Trajectory

CountTokens = Callable[[str], int]


@dataclass(frozen=True)
class ExtractionFormat:
    """One way to ask for knowledge and to read the answer."""

    name: str
    instructions: str
    """How the answer is written. In the system message it follows the environment's extraction task."""
    parse: Callable[[str], list[str]]
    """Raw extractor output → item texts, in order."""
    finished: Callable[[str], str]
    """Output that was cut at the token cap → what of it is whole."""
    truncate: Callable[[str, int, CountTokens], str]
    """(knowledge text, cap in tokens, token counter) → the newest part that fits, cut at the format's own seams."""


def transcript(trajectory: Trajectory, turns_shown: int | None) -> str:
    """The episode as the extractor reads it: per turn what was seen and the raw response, last turns only if asked."""
    first = 0 if turns_shown is None else max(0, len(trajectory.turns) - turns_shown)
    lines = []
    for number, turn in enumerate(trajectory.turns[first:], start=first + 1):
        lines.append(f"## Turn {number}\n{turn.messages[-1].content}\nAnswer: {turn.response}")
    if trajectory.turns:
        lines.append(f"## End\n{trajectory.turns[-1].observation}")
    return "\n".join(lines)


def extraction_system(task: str, form: ExtractionFormat) -> str:
    """The extractor's system message: what to look for in this kind of world, then how to write it down."""
    return f"{task} {form.instructions}"


def extraction_messages(
    form: ExtractionFormat, task: str, trajectory: Trajectory, previous: str | None, turns_shown: int | None
) -> tuple[Message, ...]:
    """The extractor's prompt. Knowledge so far comes before the episode; None leaves that block out."""
    known = "" if previous is None else f"Knowledge so far:\n{previous or '(none)'}\n\n"
    body = f"{known}Episode:\n{transcript(trajectory, turns_shown)}\nFeedback: {trajectory.feedback}"
    return (Message(role="system", content=extraction_system(task, form)), Message(role="user", content=body))
