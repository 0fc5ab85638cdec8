"""From finished episodes to knowledge: one extractor answer an episode, merged into a replica's knowledge in order.

Source: arXiv 2603.16856, extraction and accumulation. With previous knowledge in the prompt an episode waits for the
one before it, so replicas advance side by side, one batch an episode; without it everything is one stream of
batches. A replica's result does not depend on its neighbours beyond floating-point noise: every request has a seed of
its own.

Going on after a kill: the rows of `raw.jsonl` say everything, since parsing and merging are pure. Give them back as
`done` and the same rows, items and knowledge come out; only the unfinished batch is asked for again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import Field

from oel_core.config import ExtractConfig, KnowledgeConfig
from oel_core.errors import ArtifactError, ConfigError, ExtractionError, PolicyError
from oel_core.knowledge import empty, merge
from oel_core.policies.base import Completion, Policy, Request, Sampling
from oel_core.prompts.extraction import get_format
from oel_core.prompts.extraction.base import ExtractionFormat, extraction_messages
from oel_core.seeds import derive_seed
from oel_core.types import ExperienceItem, Knowledge, Record, StopReason, Trajectory


class RawOutput(Record):
    """One row of `raw.jsonl`: what the extractor answered to one episode, or why it was not asked."""

    trajectory_id: str
    output: str = ""
    stop_reason: StopReason | None = None
    prompt_tokens: int = Field(default=0, ge=0)
    response_tokens: int = Field(default=0, ge=0)
    items: int = Field(default=0, ge=0)
    """Items the format found in the output, before duplicates and the cap."""
    skipped: str | None = None
    """The episode's own error, when it had one: nothing was asked."""
    error: str | None = None
    """Why the extractor could not answer, for one a prompt that is too long."""

    @property
    def empty(self) -> bool:
        """Answered, but with nothing usable."""
        return self.skipped is None and self.error is None and self.items == 0


@dataclass(frozen=True)
class ExtractionResult:
    """What one replica's episodes gave."""

    replica: int
    knowledge: Knowledge
    """After the first `use_after` episodes: the one that is used."""
    final: Knowledge
    """After all episodes: shows saturation."""
    sizes: tuple[int, ...]
    """Tokens of the knowledge after each episode."""
    items: tuple[ExperienceItem, ...]
    """Every item found, in order, before duplicates and the cap."""
    raw: tuple[RawOutput, ...]
    """One row an episode."""

    @property
    def skipped(self) -> int:
        """Episodes that had failed and were not read."""
        return sum(row.skipped is not None for row in self.raw)

    @property
    def failed(self) -> int:
        """Episodes the extractor could not answer to."""
        return sum(row.error is not None for row in self.raw)

    @property
    def empty_outputs(self) -> int:
        """Answers without a usable item."""
        return sum(row.empty for row in self.raw)

    @property
    def truncated(self) -> int:
        """Answers that hit the token cap; their last item may be cut short."""
        return sum(row.stop_reason is StopReason.LENGTH for row in self.raw)


@dataclass
class _Replica:
    """A replica while its episodes are read."""

    trajectories: Sequence[Trajectory]
    knowledge: Knowledge
    done: Sequence[RawOutput]
    raw: list[RawOutput] = field(default_factory=list)
    items: list[ExperienceItem] = field(default_factory=list)
    states: list[Knowledge] = field(default_factory=list)


@dataclass(frozen=True)
class _Asked:
    """One episode of one replica within a batch."""

    replica: int
    index: int


def extract_items(
    policy: Policy,
    trajectories: Sequence[Trajectory],
    config: ExtractConfig,
    *,
    previous: Knowledge | None,
    cap: KnowledgeConfig,
    round_index: int,
    replica: int,
    seed: int,
    done: Sequence[RawOutput] = (),
    on_row: Callable[[RawOutput], None] = lambda row: None,
) -> ExtractionResult:
    """One replica of `extract_replicas`; `previous` is the knowledge it starts from (None: from nothing)."""
    results = extract_replicas(
        policy,
        {replica: trajectories},
        config,
        previous={} if previous is None else {replica: previous},
        cap=cap,
        round_index=round_index,
        seed=seed,
        done={replica: done},
        on_row=lambda _, row: on_row(row),
    )
    return results[replica]


def extract_replicas(
    policy: Policy,
    trajectories: Mapping[int, Sequence[Trajectory]],
    config: ExtractConfig,
    *,
    previous: Mapping[int, Knowledge],
    cap: KnowledgeConfig,
    round_index: int,
    seed: int,
    done: Mapping[int, Sequence[RawOutput]] | None = None,
    on_row: Callable[[int, RawOutput], None] = lambda replica, row: None,
) -> dict[int, ExtractionResult]:
    """Reads every replica's episodes in order and merges what the extractor writes.

    Args:
        trajectories: replica → its episodes, in the order they are read.
        previous: replica → knowledge to start from; a replica that is not there starts from nothing.
        done: replica → rows of an earlier, killed call. They are not asked for, nor given to `on_row`, again.
        on_row: called with the replica and its new row, in episode order within a replica.

    Raises:
        ArtifactError: `done` rows are not about these episodes.
        ExtractionError: the policy could not answer to a single episode of a replica.
    """
    states = {
        replica: _start(replica, episodes, previous.get(replica), (done or {}).get(replica, ()), round_index)
        for replica, episodes in sorted(trajectories.items())
    }
    reader = _Reader(policy, config, cap, round_index, seed)
    for batch in _batches(states, config.with_previous, policy.batch_size):
        for asked, row in reader.answer(states, batch):
            state = states[asked.replica]
            reader.absorb(state, row)
            if asked.index >= len(state.done):
                on_row(asked.replica, row)
    return {replica: _result(replica, state, config.use_after, round_index) for replica, state in states.items()}


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
    knowledge = previous or empty(replica, round_index)
    return _Replica(episodes, knowledge.model_copy(update={"replica": replica, "round": round_index}), done)


def _batches(states: Mapping[int, _Replica], with_previous: bool, size: int) -> Iterator[list[_Asked]]:
    """Episodes that may be asked for together: always the same batches, whatever is done already."""
    longest = max((len(state.trajectories) for state in states.values()), default=0)
    steps = [
        [_Asked(replica, index) for replica, state in states.items() if index < len(state.trajectories)]
        for index in range(longest)
    ]
    waves = steps if with_previous else [[asked for step in steps for asked in step]]
    for wave in waves:
        for first in range(0, len(wave), size):
            yield wave[first : first + size]


@dataclass(frozen=True)
class _Reader:
    """The extractor: a policy with a format."""

    policy: Policy
    config: ExtractConfig
    cap: KnowledgeConfig
    round_index: int
    seed: int

    @property
    def form(self) -> ExtractionFormat:
        return get_format(self.config.format)

    def answer(self, states: Mapping[int, _Replica], batch: Sequence[_Asked]) -> Iterator[tuple[_Asked, RawOutput]]:
        """The rows of one batch. One with a row missing is asked for whole, so that it is the same batch again."""
        missing = [asked for asked in batch if asked.index >= len(states[asked.replica].done)]
        wanted = batch if missing and self.policy.reproducible else missing
        readable = [asked for asked in wanted if _episode(states, asked).error is None]
        answers = dict(zip(readable, self._ask([self._request(states, asked) for asked in readable]), strict=True))
        for asked in batch:
            state, episode = states[asked.replica], _episode(states, asked)
            if asked.index < len(state.done):
                yield asked, state.done[asked.index]
            elif episode.error is not None:
                yield asked, RawOutput(trajectory_id=episode.id, skipped=episode.error)
            else:
                yield asked, self._row(episode.id, answers[asked])

    def _request(self, states: Mapping[int, _Replica], asked: _Asked) -> Request:
        episode = _episode(states, asked)
        known = states[asked.replica].knowledge.text if self.config.with_previous else None
        return Request(
            messages=extraction_messages(self.form, episode, known, self.config.turns_shown),
            seed=derive_seed("extract", self.seed, self.round_index, asked.replica, episode.id),
        )

    def _ask(self, requests: Sequence[Request]) -> list[Completion | PolicyError]:
        """Answers in order. When the policy refuses the batch each request is tried alone: one may be too long."""
        if not requests:
            return []
        sampling: Sampling = self.config.sampling.build()
        try:
            return list(self.policy.generate(requests, sampling))
        except PolicyError as error:
            if len(requests) == 1:
                return [error]
            return [answer for request in requests for answer in self._ask([request])]

    def _row(self, trajectory_id: str, answer: Completion | PolicyError) -> RawOutput:
        if isinstance(answer, PolicyError):
            return RawOutput(trajectory_id=trajectory_id, error=str(answer))
        return RawOutput(
            trajectory_id=trajectory_id,
            output=answer.text,
            stop_reason=answer.stop_reason,
            prompt_tokens=len(answer.prompt_ids),
            response_tokens=len(answer.response_ids),
            items=len(self.form.parse(answer.text)),
        )

    def absorb(self, state: _Replica, row: RawOutput) -> None:
        """Parses a row's output and merges its items."""
        items = [
            ExperienceItem(
                text=text,
                sources=(row.trajectory_id,),
                round=self.round_index,
                format=self.form.name,
                model=self.policy.name,
            )
            for text in self.form.parse(row.output)
        ]
        state.knowledge = merge(
            state.knowledge,
            items,
            max_tokens=self.cap.max_tokens,
            form=self.form,
            count_tokens=self.policy.count_tokens,
        )
        state.raw.append(row)
        state.items += items
        state.states.append(state.knowledge)


def _episode(states: Mapping[int, _Replica], asked: _Asked) -> Trajectory:
    return states[asked.replica].trajectories[asked.index]


def _result(replica: int, state: _Replica, use_after: int | None, round_index: int) -> ExtractionResult:
    asked = [row for row in state.raw if row.skipped is None]
    if asked and all(row.error is not None for row in asked):
        raise ExtractionError(
            f"round {round_index}, replica {replica}: the extractor answered to none of {len(asked)} episodes; the "
            f"first error was: {asked[0].error}"
        )
    used = use_after or max(1, len(state.trajectories) // 2)
    if used > len(state.trajectories):
        raise ConfigError(f"extract.use_after is {used}, but replica {replica} has {len(state.trajectories)} episodes")
    return ExtractionResult(
        replica=replica,
        knowledge=state.states[used - 1],
        final=state.knowledge,
        sizes=tuple(knowledge.tokens for knowledge in state.states),
        items=tuple(state.items),
        raw=tuple(state.raw),
    )
