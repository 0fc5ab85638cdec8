"""What an extraction format is, and the transcript that every format shows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from oel_core.config.run import ExtractionExample
from oel_core.types import INSTRUCTING, Message, Trajectory, Turn

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
    """The episode as the extractor reads it: per turn what was new in the prompt and the raw response, last turns only
    if asked.

    In an environment's episode the new part is the last message, since everything before it is the environment's own
    text or shown already. An episode without an intro is a recorded conversation: its instructions and functions come
    first, and a turn shows every message since the answer before, with its role.
    """
    recorded = not trajectory.intro
    first = 0 if turns_shown is None else max(0, len(trajectory.turns) - turns_shown)
    lines = _setting(trajectory.turns[0].messages) if recorded and trajectory.turns else []
    for number, turn in enumerate(trajectory.turns[first:], start=first + 1):
        before = trajectory.turns[number - 2] if number > 1 else None
        seen = _new_messages(before, turn) if recorded else turn.messages[-1].content
        lines.append(f"## Turn {number}\n{seen}\nAnswer: {turn.response}")
    if trajectory.turns:
        lines.append(f"## End\n{trajectory.turns[-1].observation}")
    return "\n".join(lines)


def _setting(messages: Sequence[Message]) -> list[str]:
    """The instructions of a conversation and the functions that it offers."""
    first = messages[0]
    if first.role not in INSTRUCTING:
        return []
    functions = [f"Function {tool.name}: {tool.description} {tool.parameters}" for tool in first.tools]
    return ["\n".join(filter(None, ["## Instructions", first.content, *functions]))]


def _new_messages(before: Turn | None, turn: Turn) -> str:
    """The messages of a prompt that stand behind the answer of the turn before; all where it does not continue it."""
    messages = [message for message in turn.messages if message.role not in INSTRUCTING]
    earlier = [message for message in before.messages if message.role not in INSTRUCTING] if before else []
    if before and messages[: len(earlier)] == earlier:
        messages = messages[len(earlier) + 1 :]
    return "\n".join(f"{message.role.capitalize()}: {_said(message)}" for message in messages)


def _said(message: Message) -> str:
    calls = [f"{call.name} {call.arguments}" for call in message.tool_calls]
    return "\n".join(filter(None, [message.content, *calls]))


def extraction_system(task: str, form: ExtractionFormat) -> str:
    """The extractor's system message: what to look for in this kind of world, then how to write it down."""
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
