"""Extracts knowledge from finished episodes: one extractor call per episode, merged into a replica's knowledge in
order.

Source: arXiv 2603.16856, extraction and accumulation. With previous knowledge in the prompt, an episode depends on the
one before it, so replicas advance in parallel, one batch per episode; without it all episodes form one stream of
batches. A replica's result does not depend on the others beyond rounding: every request has a seed of its own.

Resuming after a kill: the rows of `raw.jsonl` are sufficient, since parsing and merging are deterministic.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from oel_core.config.run import ExtractConfig, ExtractionExample, KnowledgeConfig
from oel_core.errors import ArtifactError, ConfigError, ExtractionError, PromptTooLongError
from oel_core.knowledge.evidence import missing_quotes
from oel_core.knowledge.extraction_records import Dropped, ExtractionResult, KnowledgeState, RawOutput, RejectedItem
from oel_core.knowledge.hygiene import screen
from oel_core.knowledge.store import empty, merge
from oel_core.policies.answers import answer_batch
from oel_core.policies.base import Completion, Policy, Request
from oel_core.policies.replicated.policy import on_each
from oel_core.prompts.extraction import get_format
from oel_core.prompts.extraction.base import ExtractionFormat, extraction_messages
from oel_core.seeds import derive_seed
from oel_core.text.thinking import answer_in
from oel_core.types import ExperienceItem, Knowledge, StopReason, Trajectory

__all__ = ["ExtractionResult", "RawOutput", "extract_replicas"]


@dataclass(eq=False)
class _Replica:
    """A replica during extraction."""

    number: int
    trajectories: Sequence[Trajectory]
    done: Sequence[RawOutput]
    states: list[KnowledgeState]
    """Before the first episode, then after each processed one."""
    raw: list[RawOutput] = field(default_factory=list)
    items: list[ExperienceItem] = field(default_factory=list)

    @property
    def knowledge(self) -> Knowledge:
        return self.states[-1].knowledge


class _EpisodeRequest(NamedTuple):
    """One episode of one replica within a batch."""

    replica: _Replica
    position: int

    @property
    def episode(self) -> Trajectory:
        return self.replica.trajectories[self.position]

    @property
    def row(self) -> RawOutput | None:
        """Its row from an earlier, killed call."""
        return self.replica.done[self.position] if self.position < len(self.replica.done) else None


def extract_replicas(
    policy: Policy,
    trajectories: Mapping[int, Sequence[Trajectory]],
    config: ExtractConfig,
    *,
    task: str,
    examples: Sequence[ExtractionExample] = (),
    previous: Mapping[int, Knowledge],
    cap: KnowledgeConfig,
    round_index: int,
    seed: int,
    shape: str | None = None,
    done: Mapping[int, Sequence[RawOutput]] | None = None,
    on_row: Callable[[int, RawOutput], None] = lambda replica, row: None,
) -> dict[int, ExtractionResult]:
    """Reads every replica's episodes in order and merges what the extractor writes.

    Args:
        trajectories: replica → its episodes, in the order they are read.
        task: the extractor's task (`oel_core.envs.extraction_task`).
        examples: demonstrations that every prompt begins with (`oel_core.envs.extraction_examples`).
        shape: regular expression that answers are kept within (`oel_core.envs.answer_shape`); None: any text.
        previous: replica → knowledge to start from; a replica that is not there starts from nothing.
        done: replica → rows of an earlier, killed call. They are not asked for, nor given to `on_row`, again.
        on_row: called with the replica and its new row, in episode order within a replica.

    Raises:
        ArtifactError: `done` rows are not about these episodes.
        ExtractionError: the policy could not answer to a single episode of a replica.
        PolicyError: the policy cannot generate at all.
    """
    replicas = [
        _start(number, episodes, previous.get(number), (done or {}).get(number, ()), round_index)
        for number, episodes in sorted(trajectories.items())
    ]
    reader = _Reader(policy, config, task, tuple(examples), shape, cap, round_index, seed)
    for batches in _waves(replicas, config.with_previous, policy.batch_size):
        for batch, rows in zip(batches, reader.answer(batches), strict=True):
            for asked, row in zip(batch, rows, strict=True):
                reader.absorb(asked.replica, row)
                if asked.row is None:
                    on_row(asked.replica.number, row)
    return {replica.number: _result(replica, config.use_after, round_index) for replica in replicas}


def _start(
    replica: int,
    episodes: Sequence[Trajectory],
    previous: Knowledge | None,
    done: Sequence[RawOutput],
    round_index: int,
) -> _Replica:
    expected = [episode.id for episode in episodes[: len(done)]]
    found = [row.trajectory_id for row in done]
    if found != expected:
        wrong = next(
            (n for n, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), len(expected)
        )
        raise ArtifactError(
            f"raw.jsonl of replica {replica}, row {wrong + 1} is about episode {found[wrong]}, expected "
            f"{expected[wrong] if wrong < len(expected) else 'no more rows'}: remove that file to extract again"
        )
    knowledge = (previous or empty(replica, round_index)).model_copy(update={"replica": replica, "round": round_index})
    return _Replica(replica, episodes, tuple(done), [KnowledgeState(knowledge=knowledge)])


def _waves(replicas: Sequence[_Replica], with_previous: bool, size: int) -> Iterator[list[list[_EpisodeRequest]]]:
    """Batches of which none depends on another: always the same ones, whatever is already done."""
    longest = max((len(replica.trajectories) for replica in replicas), default=0)
    steps = [
        [_EpisodeRequest(replica, index) for replica in replicas if index < len(replica.trajectories)]
        for index in range(longest)
    ]
    waves = steps if with_previous else [[asked for step in steps for asked in step]]
    for wave in waves:
        yield [wave[first : first + size] for first in range(0, len(wave), size)]


@dataclass(frozen=True)
class _Reader:
    """The extractor: a policy with a format."""

    policy: Policy
    config: ExtractConfig
    task: str
    examples: tuple[ExtractionExample, ...]
    shape: str | None
    cap: KnowledgeConfig
    round_index: int
    seed: int

    @property
    def form(self) -> ExtractionFormat:
        return get_format(self.config.format)

    def answer(self, batches: Sequence[Sequence[_EpisodeRequest]]) -> Iterator[list[RawOutput]]:
        """The rows of every batch, in order."""
        wanted = [self._wanted(batch) for batch in batches]
        requests = ([self._request(asked) for asked in readable] for readable in wanted)
        answered = on_each(self.policy, partial(answer_batch, sampling=self.config.sampling), requests)
        for batch, readable, completed in zip(batches, wanted, answered, strict=True):
            answers = {asked: one.answer for asked, one in zip(readable, completed, strict=True)}
            yield [asked.row or self._row(asked.episode, answers.get(asked)) for asked in batch]

    def _wanted(self, batch: Sequence[_EpisodeRequest]) -> list[_EpisodeRequest]:
        """What is asked for. If a row is missing, the whole batch is repeated, so that it gives the same bytes."""
        missing = [asked for asked in batch if asked.row is None]
        wanted = batch if missing and self.policy.reproducible else missing
        return [asked for asked in wanted if asked.episode.error is None]

    def _request(self, asked: _EpisodeRequest) -> Request:
        known = asked.replica.knowledge.text if self.config.with_previous else None
        return Request(
            messages=extraction_messages(
                self.form, self.task, asked.episode, known, self.config.turns_shown, self.examples
            ),
            seed=derive_seed("extract", self.seed, self.round_index, asked.replica.number, asked.episode.id),
            shape=self.shape,
        )

    def _row(self, episode: Trajectory, answer: Completion | PromptTooLongError | None) -> RawOutput:
        if answer is None:
            return RawOutput(trajectory_id=episode.id, skipped=episode.error)
        if isinstance(answer, PromptTooLongError):
            return RawOutput(trajectory_id=episode.id, error=str(answer))
        row = RawOutput(
            trajectory_id=episode.id,
            output=answer.text,
            answer=None if answer.answer == answer.text else answer.answer,
            stop_reason=answer.stop_reason,
            prompt_tokens=len(answer.prompt_ids),
            response_tokens=len(answer.response_ids),
        )
        rejected = self._rejected(row, episode)
        row = row.model_copy(update={"rejected": rejected, "dropped": self._dropped(row)})
        return row.model_copy(update={"items": len(self._accepted(row))})

    def _items(self, row: RawOutput) -> list[str]:
        """Items of an output, without one that was truncated at the token cap."""
        cut = row.stop_reason is StopReason.LENGTH
        return self.form.parse(self.form.finished(row.output_text) if cut else row.output_text)

    def _rejected(self, row: RawOutput, episode: Trajectory) -> tuple[RejectedItem, ...]:
        if self.config.evidence == "off":
            return ()
        missing = {text: missing_quotes(text, episode) for text in self._items(row)}
        return tuple(RejectedItem(text=text, missing=tuple(found)) for text, found in missing.items() if found)

    def _accepted(self, row: RawOutput) -> list[str]:
        rejected = {item.text for item in row.rejected}
        return [text for text in self._items(row) if text not in rejected]

    def _dropped(self, row: RawOutput) -> Dropped | None:
        if row.stop_reason is StopReason.LENGTH and not answer_in(row.output_text).strip():
            return Dropped.UNFINISHED_THINKING
        return Dropped.UNFINISHED_ITEM if self.form.parse(row.output_text) != self._items(row) else None

    def absorb(self, replica: _Replica, row: RawOutput) -> None:
        """Parses a row's output and merges the items that pass the hygiene checks, since the next prompt may contain
        them."""
        items = [
            ExperienceItem(
                text=text,
                sources=(row.trajectory_id,),
                round=self.round_index,
                format=self.form.name,
                model=self.policy.name,
            )
            for text in self._accepted(row)
        ]
        kept, flagged = screen(items, replica.knowledge.items, self.cap.hygiene, replica.number)
        knowledge = merge(
            replica.knowledge,
            kept,
            max_tokens=self.cap.max_tokens,
            form=self.form,
            count_tokens=self.policy.count_tokens,
        )
        replica.raw.append(row)
        replica.items += items
        replica.states.append(KnowledgeState(knowledge=knowledge, flagged=tuple(flagged)))


def _result(replica: _Replica, use_after: int | None, round_index: int) -> ExtractionResult:
    asked = [row for row in replica.raw if row.skipped is None]
    if asked and all(row.error is not None for row in asked):
        raise ExtractionError(
            f"round {round_index}, replica {replica.number}: the extractor answered to none of {len(asked)} episodes; "
            f"the first error was: {asked[0].error}"
        )
    used = use_after or max(1, len(replica.trajectories) // 2)
    if used > len(replica.trajectories):
        raise ConfigError(
            f"extract.use_after is {used}, but replica {replica.number} has {len(replica.trajectories)} episodes"
        )
    return ExtractionResult(
        replica=replica.number,
        knowledge=replica.states[used].knowledge,
        states=tuple(replica.states),
        items=tuple(replica.items),
        raw=tuple(replica.raw),
    )
