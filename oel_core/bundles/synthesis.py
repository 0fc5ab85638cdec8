"""Generates prompts from knowledge: the round's start model writes user requests to which an item is relevant.

Such prompts depend on the quality of that model and lack the deployment's instructions, tools and earlier turns. If the
deployment's own prompts may be exported, they are better.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from pydantic import Field

from oel_core.bundles.records import BundleKnowledge
from oel_core.config.operation import SynthesisConfig
from oel_core.errors import ArtifactError, ExtractionError, PromptTooLongError
from oel_core.knowledge.hygiene.text import without_marker
from oel_core.knowledge.store import item_key
from oel_core.policies.base import Completion, Policy, Request
from oel_core.prompts.synthesis import synthesis_messages
from oel_core.seeds import derive_seed
from oel_core.text.thinking import answer_in
from oel_core.types import Message, PartialRollout, Record, StopReason


class Unusable(StrEnum):
    """Why a generated text is not used as a prompt."""

    EMPTY = "empty"
    CUT = "cut"
    """Truncated at `max_tokens`."""
    REPEATS_ADVICE = "repeats_advice"
    """Contains the whole knowledge item."""
    WRITTEN_BEFORE = "written_before"
    TOO_LONG = "too_long"
    """The knowledge item does not fit the model's context; nothing was generated."""


class WrittenPrompt(Record):
    """A line of `synthesis.jsonl`: one generated text."""

    number: int = Field(ge=0)
    advice: str
    """The knowledge item in the model's prompt."""
    text: str
    unusable: Unusable | None = None


@dataclass(frozen=True)
class _Request:
    number: int
    advice: str
    seed: int


def synthesise(
    policy: Policy,
    knowledge: Sequence[BundleKnowledge],
    config: SynthesisConfig,
    seed: int,
    *,
    done: Sequence[WrittenPrompt] = (),
    on_row: Callable[[WrittenPrompt], None] = lambda row: None,
) -> list[WrittenPrompt]:
    """One row per request, in order; every knowledge item is used once before any is used again.

    Args:
        done: rows of an earlier, killed call; `on_row` is not called for them again.

    Raises:
        ExtractionError: the knowledge is empty, or no generated text is usable.
        ArtifactError: `done` belongs to other knowledge.
        PolicyError: the model cannot generate.
    """
    wanted, rows = list(_requests(knowledge, config.prompts, seed)), list(done)
    if [row.advice for row in rows] != [asked.advice for asked in wanted[: len(rows)]]:
        raise ArtifactError("synthesis.jsonl is about other knowledge: delete its stage's partial folder and run again")
    for first in range(0, len(wanted), policy.batch_size):
        batch = wanted[first : first + policy.batch_size]
        if len(rows) >= first + len(batch):
            continue
        for asked, answer in list(zip(batch, _answers(policy, batch, config), strict=True))[len(rows) - first :]:
            rows.append(_row(asked, answer, rows))
            on_row(rows[-1])
    if all(row.unusable for row in rows):
        reasons = ", ".join(sorted({str(row.unusable) for row in rows}))
        raise ExtractionError(
            f"not one of {len(rows)} answers is a usable prompt ({reasons}): raise experience.synthesis.prompts or its "
            "sampling.max_tokens, take a larger model, or make the bundle with prompts"
        )
    return rows


def usable_prompts(rows: Sequence[WrittenPrompt]) -> list[PartialRollout]:
    """The usable prompts of the rows, each as an episode of one turn."""
    return [
        PartialRollout(trajectory_id=f"e{row.number:06d}", turn=0, messages=(Message(role="user", content=row.text),))
        for row in rows
        if row.unusable is None
    ]


def _requests(knowledge: Sequence[BundleKnowledge], count: int, seed: int) -> Iterator[_Request]:
    items = [item.text for entry in knowledge for item in entry.items]
    lines = [without_marker(line).strip() for text in items for line in text.splitlines()]
    pool = [line for line in dict.fromkeys(lines) if line]
    if not pool:
        raise ExtractionError("the bundle has no knowledge, so no prompts can be written from it")
    order: list[str] = []
    while len(order) < count:
        order += Random(derive_seed("synthesis", seed, len(order))).sample(pool, len(pool))
    for number, advice in enumerate(order[:count]):
        yield _Request(number, advice, derive_seed("synthesis", seed, "request", number))


def _answers(policy: Policy, batch: Sequence[_Request], config: SynthesisConfig) -> list[Completion | None]:
    """The responses in order; None for prompts that are too long."""
    if not batch:
        return []
    requests = [Request(synthesis_messages(asked.advice), asked.seed) for asked in batch]
    try:
        return list(policy.generate(requests, config.sampling))
    except PromptTooLongError as error:
        problems = error.problems
    kept = [asked for number, asked in enumerate(batch) if number not in problems]
    rest = iter(_answers(policy, kept, config))
    return [None if number in problems else next(rest) for number in range(len(batch))]


def _row(asked: _Request, answer: Completion | None, before: Sequence[WrittenPrompt]) -> WrittenPrompt:
    if answer is None:
        return WrittenPrompt(number=asked.number, advice=asked.advice, text="", unusable=Unusable.TOO_LONG)
    text = (answer_in(answer.text) if answer.answer is None else answer.answer).strip()
    return WrittenPrompt(
        number=asked.number, advice=asked.advice, text=text, unusable=_problem(asked, answer, text, before)
    )


def _problem(asked: _Request, answer: Completion, text: str, before: Sequence[WrittenPrompt]) -> Unusable | None:
    if not text:
        return Unusable.EMPTY
    if answer.stop_reason is StopReason.LENGTH:
        return Unusable.CUT
    if item_key(asked.advice).casefold() in item_key(text).casefold():
        return Unusable.REPEATS_ADVICE
    return Unusable.WRITTEN_BEFORE if any(row.text == text for row in before) else None
