"""Prompts from knowledge alone: the round's start model writes what a user could say where a piece of it matters.

Such prompts are only as good as the model that writes them, and have neither the deployment's instructions nor its
functions nor earlier turns. Prompts of the deployment are better wherever they may leave it.
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
    """Why an answer is no prompt."""

    EMPTY = "empty"
    CUT = "cut"
    """The token cap ended it."""
    REPEATS_ADVICE = "repeats_advice"
    """It has the whole piece of knowledge in it."""
    WRITTEN_BEFORE = "written_before"
    TOO_LONG = "too_long"
    """The piece of knowledge does not fit the model's context; nothing was asked."""


class WrittenPrompt(Record):
    """A line of `synthesis.jsonl`: one request and what became of it."""

    number: int = Field(ge=0)
    advice: str
    """The line of knowledge that the model was given."""
    text: str
    unusable: Unusable | None = None


@dataclass(frozen=True)
class _Asked:
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
    """One row a request, in order; every line of knowledge is asked about before one is asked about again.

    Args:
        done: rows of an earlier, killed call; they are not given to `on_row` again.

    Raises:
        ExtractionError: the knowledge is empty, or not one answer is a usable prompt.
        ArtifactError: `done` is about other knowledge.
        PolicyError: the model cannot generate at all.
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
    """The prompts among the rows, each as an episode of one turn."""
    return [
        PartialRollout(trajectory_id=f"e{row.number:06d}", turn=0, messages=(Message(role="user", content=row.text),))
        for row in rows
        if row.unusable is None
    ]


def _requests(knowledge: Sequence[BundleKnowledge], count: int, seed: int) -> Iterator[_Asked]:
    items = [item.text for entry in knowledge for item in entry.items]
    lines = [without_marker(line).strip() for text in items for line in text.splitlines()]
    pool = [line for line in dict.fromkeys(lines) if line]
    if not pool:
        raise ExtractionError("the bundle has no knowledge, so no prompts can be written from it")
    order: list[str] = []
    while len(order) < count:
        order += Random(derive_seed("synthesis", seed, len(order))).sample(pool, len(pool))
    for number, advice in enumerate(order[:count]):
        yield _Asked(number, advice, derive_seed("synthesis", seed, "request", number))


def _answers(policy: Policy, batch: Sequence[_Asked], config: SynthesisConfig) -> list[Completion | None]:
    """The answers in order; None where the prompt is too long. The others are asked without it."""
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


def _row(asked: _Asked, answer: Completion | None, before: Sequence[WrittenPrompt]) -> WrittenPrompt:
    if answer is None:
        return WrittenPrompt(number=asked.number, advice=asked.advice, text="", unusable=Unusable.TOO_LONG)
    text = (answer_in(answer.text) if answer.answer is None else answer.answer).strip()
    return WrittenPrompt(
        number=asked.number, advice=asked.advice, text=text, unusable=_problem(asked, answer, text, before)
    )


def _problem(asked: _Asked, answer: Completion, text: str, before: Sequence[WrittenPrompt]) -> Unusable | None:
    if not text:
        return Unusable.EMPTY
    if answer.stop_reason is StopReason.LENGTH:
        return Unusable.CUT
    if item_key(asked.advice).casefold() in item_key(text).casefold():
        return Unusable.REPEATS_ADVICE
    return Unusable.WRITTEN_BEFORE if any(row.text == text for row in before) else None
