"""Filters prompts whose teacher prompt and response exceed the context window, before any sampling."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from oel_core.config.knowledge import InjectionConfig
from oel_core.distillation.data.dataset import Encode, sample_id
from oel_core.prompts.injection import inject
from oel_core.runs.files import write_atomic
from oel_core.runs.jsonl import jsonl_bytes, read_jsonl
from oel_core.types import Knowledge, Message, PartialRollout, Record

LEFT_OUT = "left_out.jsonl"
Steps = Sequence[Sequence[PartialRollout]]


class LeftOutPrompt(Record):
    """A line of `left_out.jsonl`: a prompt that no step trains on."""

    id: str
    """Trajectory and turn."""
    tokens: int = Field(ge=0)
    """Length of its longest teacher prompt."""
    room: int
    """Maximum prompt length, tokens."""


def drop_long_prompts(
    steps: Steps, knowledge: Sequence[Knowledge], encode: Encode, max_prompt_tokens: int, injection: InjectionConfig
) -> tuple[Steps, list[LeftOutPrompt]]:
    """The steps without the prompts that are too long with any of the knowledge files, and those prompts.

    If a step would lose all of its prompts, none is removed, and `check_context` raises later.
    """
    prompts = [prompt for step in steps for prompt in step]
    long = _too_long({prompt.messages for prompt in prompts}, knowledge, encode, max_prompt_tokens, injection)
    kept = [[prompt for prompt in step if prompt.messages not in long] for step in steps]
    if not all(kept):
        return steps, []
    named = {sample_id(one.trajectory_id, one.turn): long[one.messages] for one in prompts if one.messages in long}
    return kept, [LeftOutPrompt(id=name, tokens=tokens, room=max_prompt_tokens) for name, tokens in named.items()]


def _too_long(
    prompts: set[tuple[Message, ...]],
    knowledge: Sequence[Knowledge],
    encode: Encode,
    max_prompt_tokens: int,
    injection: InjectionConfig,
) -> dict[tuple[Message, ...], int]:
    """Prompt → tokens of its longest teacher prompt, where that exceeds the maximum."""
    texts = sorted({entry.text for entry in knowledge})
    long = {}
    for messages in sorted(prompts, key=lambda messages: len(encode(messages)), reverse=True):
        most = max(len(encode(inject(messages, text, injection))) for text in texts)
        if most > max_prompt_tokens:
            long[messages] = most
        elif injection.mode == "global":  # all prompts get the same text, so the shorter ones fit too
            break
    return long


def write_left_out(folder: Path, left_out: Sequence[LeftOutPrompt]) -> None:
    """Writes `left_out.jsonl`; no file where no prompt was left out."""
    if left_out:
        write_atomic(folder / LEFT_OUT, jsonl_bytes(left_out))


def count_left_out(folder: Path) -> int:
    """Number of prompts that a finished distillation left out."""
    path = folder / LEFT_OUT
    return sum(1 for _ in read_jsonl(path, LeftOutPrompt)) if path.exists() else 0
