"""The interface of an extraction format, and the transcript that all formats share."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from oel_core.config.run import ExtractionExample
from oel_core.prompts.extraction.hindsight import reaction, said_since, without_instructions
from oel_core.types import INSTRUCTING, Message, Trajectory, Turn

CountTokens = Callable[[str], int]
_STRUCTURE = re.compile(
    r"^(?=## |(?:Answer|Feedback|Episode|Knowledge so far|(?:System|Developer|User|Assistant|Tool)(?: \([^)\n]*\))?):)",
    re.MULTILINE,
)
LINE_ENDS = r"\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029"
"""The line separators of `str.splitlines`, for a character class."""
ANY_LINE = rf"\S[^{LINE_ENDS}]*"
"""Default shape of an item."""


@dataclass(frozen=True)
class ExtractionFormat:
    """Instructions for the extractor and the parser of its output."""

    name: str
    instructions: str
    """The form of the output. Follows the environment's extraction task in the system message."""
    parse: Callable[[str], list[str]]
    """Raw extractor output → item texts, in order."""
    finished: Callable[[str], str]
    """The complete part of an output that was truncated at the token cap."""
    truncate: Callable[[str, int, CountTokens], str]
    """(knowledge text, cap in tokens, token counter) → the newest part that fits, cut between the format's units."""
    shape: Callable[[str], str] | None = None
    """Regular expression of one item's text → that of a whole output; None: the format cannot be constrained."""


def transcript(trajectory: Trajectory, turns_shown: int | None) -> str:
    """The episode as the extractor reads it: per turn the new messages and the raw response; `turns_shown` limits it to
    the last turns.

    In an environment's episode the new part is the last message, since everything before it is the environment's own
    text or was shown before. An episode without an intro is a recorded conversation: its instructions and functions
    come first, and a turn shows every message since the previous answer, with its role and, for a user's, whether it
    rejects that answer.
    """
    recorded = not trajectory.intro
    first = 0 if turns_shown is None else max(0, len(trajectory.turns) - turns_shown)
    lines = _setting(trajectory.turns[0].messages) if recorded and trajectory.turns else []
    for number, turn in enumerate(trajectory.turns[first:], start=first + 1):
        before = trajectory.turns[number - 2] if number > 1 else None
        seen = _new_messages(number, before, turn) if recorded else turn.messages[-1].content
        answer = _inert(turn.response) if recorded else turn.response
        lines.append(f"## Turn {number}\n{seen}\nAnswer: {answer}")
    if trajectory.turns:
        end = trajectory.turns[-1].observation
        lines.append(f"## End\n{_inert(end) if recorded else end}")
    return "\n".join(lines)


def _setting(messages: Sequence[Message]) -> list[str]:
    """The instructions of a conversation and its functions."""
    first = messages[0]
    if first.role not in INSTRUCTING:
        return []
    functions = [f"Function {tool.name}: {tool.description} {tool.parameters}" for tool in first.tools]
    return ["\n".join(filter(None, ["## Instructions", first.content, *functions]))]


def _new_messages(number: int, before: Turn | None, turn: Turn) -> str:
    """The messages of a prompt after the previous turn's answer; all messages if the prompt does not continue it.

    A user's message that follows the answer says how it relates to it (`hindsight`).
    """
    since = said_since(before, turn) if before else None
    messages = without_instructions(turn) if since is None else since
    roles = [message.role.capitalize() for message in messages]
    if before and since and since[0].role == "user":
        roles[0] = f"User ({reaction(before, since[0].content)} answer {number - 1})"
    return "\n".join(f"{role}: {_said(message)}" for role, message in zip(roles, messages, strict=True))


def _said(message: Message) -> str:
    calls = [f"{call.name} {call.arguments}" for call in message.tool_calls]
    return _inert("\n".join(filter(None, [message.content, *calls])))


def _inert(text: str) -> str:
    """A text of a conversation, in which lines that look like the transcript's own are indented."""
    return _STRUCTURE.sub(r"  \g<0>", text)


def extraction_system(task: str, form: ExtractionFormat) -> str:
    """The extractor's system message: what to look for in this kind of environment, then the form of the output."""
    return f"{task} {form.instructions}"


def extraction_messages(
    form: ExtractionFormat,
    task: str,
    trajectory: Trajectory,
    previous: str | None,
    turns_shown: int | None,
    examples: Sequence[ExtractionExample] = (),
) -> tuple[Message, ...]:
    """The extractor's prompt: system message, demonstrations as turns, then the episode.

    Knowledge so far comes before the episode; None leaves that block out.
    """
    known = "" if previous is None else f"Knowledge so far:\n{previous or '(none)'}\n\n"
    body = f"{known}Episode:\n{transcript(trajectory, turns_shown)}\nFeedback: {trajectory.feedback}"
    demonstrations = [
        message
        for example in examples
        for message in (
            Message(role="user", content=example.episode),
            Message(role="assistant", content=example.answer),
        )
    ]
    system = Message(role="system", content=extraction_system(task, form))
    return (system, *demonstrations, Message(role="user", content=body))
