"""Extraction: provenance, order, resuming, and errors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from oel_core.config.run import ExtractConfig, KnowledgeConfig
from oel_core.config.sampling import Sampling
from oel_core.errors import ArtifactError, ConfigError, ExtractionError, PolicyError, PromptTooLongError
from oel_core.knowledge.extraction import ExtractionResult, RawOutput, extract_replicas
from oel_core.knowledge.extraction_records import Dropped
from oel_core.policies.base import Completion, Request
from oel_core.prompts.extraction.itemised import MARKER
from oel_core.types import Knowledge, StopReason, Trajectory
from tests.builders import episode, item, knowledge_of


class Killed(BaseException):
    """What a kill does to the process that wrote the rows."""


@dataclass
class Extractor:
    """Answers by rule; remembers every batch. An answer may depend on the seed, as a sampled one does."""

    rule: Callable[[Request], str] = lambda request: f"{MARKER} fact {request.seed % 5}"
    batch_size: int = 8
    reproducible: bool = True
    max_prompt: int = 10_000
    name: str = "extractor"
    batches: list[tuple[Request, ...]] = field(default_factory=list)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        self.batches.append(tuple(requests))
        long = [
            position for position, request in enumerate(requests) if len(request.messages[-1].content) > self.max_prompt
        ]
        if long:
            raise PromptTooLongError({position: f"prompt {position} is too long" for position in long})
        return [self._answer(request, sampling) for request in requests]

    def _answer(self, request: Request, sampling: Sampling) -> Completion:
        text = self.rule(request)
        words = len(text.split())
        reason = StopReason.LENGTH if words > sampling.max_tokens else StopReason.EOS
        return Completion(text, (1, 2, 3), tuple(range(words)), reason)

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def close(self) -> None:
        """Nothing to free."""

    @property
    def prompts(self) -> list[str]:
        return [request.messages[-1].content for batch in self.batches for request in batch]


def episodes(count: int, replica: int = 0) -> list[Trajectory]:
    return [episode(f"r01-extract-k{replica:02d}-e{index:04d}", answers=(f"try {index}",)) for index in range(count)]


def read_all(
    policy: Extractor, played: Mapping[int, Sequence[Trajectory]], **options: Any
) -> dict[int, ExtractionResult]:
    settings = {"task": "Read.", "previous": {}, "cap": KnowledgeConfig(max_tokens=1000), "round_index": 1, "seed": 5}
    config = options.pop("config", ExtractConfig())
    return extract_replicas(policy, played, config, **{**settings, **options})


def read(
    policy: Extractor,
    played: Sequence[Trajectory],
    *,
    previous: Knowledge | None = None,
    replica: int = 0,
    done: Sequence[RawOutput] = (),
    **options: Any,
) -> ExtractionResult:
    """One replica alone."""
    options["previous"] = {} if previous is None else {replica: previous}
    return read_all(policy, {replica: played}, done={replica: done}, **options)[replica]


def number_of(request: Request) -> str:
    """The episode's number, from its transcript."""
    return request.messages[-1].content.rpartition("Answer: try ")[2].split("\n")[0]


def test_items_carry_their_episode_round_format_and_model() -> None:
    policy = Extractor(rule=lambda request: f"{MARKER} n{number_of(request)}\n{MARKER} always")
    result = read(policy, episodes(4), round_index=2)
    assert result.final.text.split("\n") == [f"{MARKER} {text}" for text in ("n0", "always", "n1", "n2", "n3")]
    assert result.final.items[1].sources == tuple(f"r01-extract-k00-e{index:04d}" for index in range(4))
    assert result.final.items[2].sources == ("r01-extract-k00-e0001",)
    assert {(entry.round, entry.format, entry.model) for entry in result.items} == {(2, "itemised", "extractor")}
    assert len(result.items) == 8
    assert result.final.dropped_duplicates == 3


def test_half_of_the_episodes_are_used_and_all_show_saturation() -> None:
    policy = Extractor(rule=lambda request: f"{MARKER} n{min(int(number_of(request)), 3)}")
    result = read(policy, episodes(6))
    assert [entry.text for entry in result.knowledge.items] == [f"{MARKER} n{index}" for index in range(3)]
    assert result.sizes == (4, 8, 12, 16, 16, 16)
    assert read(policy, episodes(6), config=ExtractConfig(use_after=1)).knowledge.text == f"{MARKER} n0"
    assert read(policy, episodes(1)).knowledge.tokens == 4


def test_each_episode_is_read_with_what_was_known_before_it() -> None:
    policy = Extractor(rule=lambda request: f"{MARKER} n{number_of(request)}")
    read(policy, episodes(3))
    known = [prompt.partition("\n\nEpisode:")[0] for prompt in policy.prompts]
    assert known == [f"Knowledge so far:\n{text}" for text in ("(none)", f"{MARKER} n0", f"{MARKER} n0\n{MARKER} n1")]


def test_without_previous_knowledge_all_episodes_go_in_full_batches() -> None:
    policy = Extractor(rule=lambda request: f"{MARKER} n{number_of(request)}", batch_size=4)
    result = read(policy, episodes(6), config=ExtractConfig(with_previous=False))
    assert [len(batch) for batch in policy.batches] == [4, 2]
    assert not any("Knowledge so far" in prompt for prompt in policy.prompts)
    assert [entry.text for entry in result.final.items] == [f"{MARKER} n{index}" for index in range(6)]


def test_reading_starts_from_the_previous_rounds_knowledge() -> None:
    policy = Extractor(rule=lambda request: f"{MARKER} new")
    result = read(policy, episodes(1), previous=knowledge_of(item(f"{MARKER} old", "r00")), round_index=2, replica=3)
    assert [(entry.text, entry.round) for entry in result.knowledge.items] == [
        (f"{MARKER} old", 1),
        (f"{MARKER} new", 2),
    ]
    assert (result.knowledge.round, result.knowledge.replica) == (2, 3)


def test_the_cap_holds_in_prompts_and_results() -> None:
    policy = Extractor(rule=lambda request: f"{MARKER} n{number_of(request)}")
    result = read(policy, episodes(5), cap=KnowledgeConfig(max_tokens=8))
    assert result.final.text == f"{MARKER} n3\n{MARKER} n4"
    assert result.final.dropped_over_cap == 3
    assert max(result.sizes) == 8


def test_free_text_is_merged_by_the_same_rules() -> None:
    policy = Extractor(rule=lambda request: f"<think>hm</think> Note {number_of(request)}.\nGo on.")
    result = read(policy, episodes(2), config=ExtractConfig(format="free_text"))
    assert result.final.text == "Note 0.\nGo on.\nNote 1.\nGo on."
    assert result.items[0].format == "free_text"


def test_failed_episodes_are_skipped_and_empty_answers_counted() -> None:
    played = [*episodes(2), episode("broken", error="the world fell apart"), episode("last", answers=("try 9",))]
    policy = Extractor(rule=lambda request: "nothing to say" if number_of(request) == "1" else f"{MARKER} x")
    result = read(policy, played)
    assert (result.skipped, result.empty_outputs, result.failed) == (1, 1, 0)
    assert [row.items for row in result.raw] == [1, 0, 0, 1]
    assert result.raw[2] == RawOutput(trajectory_id="broken", skipped="the world fell apart")
    assert len(policy.prompts) == 3


def test_what_the_token_cap_cut_is_no_knowledge_and_is_counted_with_its_reason() -> None:
    config = ExtractConfig.model_validate({"sampling": {"max_tokens": 3}})
    said = [f"{MARKER} fact one\n{MARKER} fact tw", f"{MARKER} one\n", f"<think> {MARKER} draft\n{MARKER} more"]
    policy = Extractor(rule=lambda request: said[int(number_of(request))])
    result = read(policy, episodes(3), config=config)
    assert [row.dropped for row in result.raw] == ["unfinished_item", None, "unfinished_thinking"]
    assert [row.items for row in result.raw] == [1, 1, 0]
    assert [entry.text for entry in result.items] == [f"{MARKER} fact one", f"{MARKER} one"]
    assert result.truncated == 3
    assert [result.dropped(reason) for reason in Dropped] == [1, 1]
    again = read(Extractor(), episodes(3), config=config, done=result.raw)
    assert again == result


def test_items_are_read_from_the_answer_where_the_policy_tells_it_from_the_thinking() -> None:
    @dataclass
    class Thinker(Extractor):
        def _answer(self, request: Request, sampling: Sampling) -> Completion:
            return Completion(f"{MARKER} draft</think>{MARKER} said </think>", (1,), (2,), reason, answer=said)

    said, reason = f"{MARKER} said </think>", StopReason.EOS
    result = read(Thinker(), episodes(1))
    assert [entry.text for entry in result.items] == [said]
    assert (result.raw[0].answer, result.raw[0].dropped) == (said, None)
    said = ""
    assert read(Thinker(), episodes(1)).raw[0].dropped is None
    reason = StopReason.LENGTH
    result = read(Thinker(), episodes(1))
    assert (result.items, result.raw[0].dropped) == ((), Dropped.UNFINISHED_THINKING)


def test_every_request_has_the_shape_that_answers_are_kept_within() -> None:
    for shape in (None, "- EXPERIENCE ITEM: [a-z]+"):
        policy = Extractor(lambda request: "- EXPERIENCE ITEM: a")
        read(policy, episodes(3), shape=shape)
        assert [request.shape for batch in policy.batches for request in batch] == [shape] * 3


def test_a_prompt_that_is_too_long_is_data_and_spares_its_batch() -> None:
    long = episode("long", answers=("z" * 500,))
    policy = Extractor(max_prompt=400)
    results = read_all(policy, {0: episodes(1), 1: [long, *episodes(1, 1)], 2: episodes(1, 2)})
    assert [results[replica].failed for replica in (0, 1, 2)] == [0, 1, 0]
    assert results[1].raw[0].error == "prompt 1 is too long"
    assert [len(batch) for batch in policy.batches] == [3, 2, 1]
    assert [row.items for replica in (0, 2) for row in results[replica].raw] == [1, 1]
    assert results[1].raw[1].items == 1


def test_an_extractor_that_never_answers_is_an_error() -> None:
    with pytest.raises(ExtractionError, match="replica 0: the extractor answered to none of 2 episodes"):
        read(Extractor(max_prompt=1), [*episodes(2), episode("broken", error="no")])
    with pytest.raises(ExtractionError, match="the first error was: prompt 0 is too long"):
        read(Extractor(max_prompt=1), episodes(2), config=ExtractConfig(with_previous=False))


def test_a_policy_that_breaks_is_not_taken_for_data() -> None:
    def broken(request: Request) -> str:
        raise PolicyError("the server is gone")

    with pytest.raises(PolicyError, match="the server is gone"):
        read(Extractor(rule=broken), episodes(2))


def test_a_replica_does_not_depend_on_its_neighbours() -> None:
    played = {replica: episodes(2 + replica, replica) for replica in range(3)}
    together = read_all(Extractor(batch_size=2), played)
    for replica, own in played.items():
        assert read(Extractor(), own, replica=replica) == together[replica]
    assert len({result.final.text for result in together.values()}) > 1


def test_every_episode_of_every_replica_and_round_is_drawn_by_its_own_seed() -> None:
    policy = Extractor()
    same = episodes(3)  # the same episodes in both replicas: only the replica tells the requests apart
    for round_index in (1, 2):
        read_all(policy, {0: same, 1: same}, round_index=round_index)
    assert len({request.seed for batch in policy.batches for request in batch}) == 12


def test_another_seed_draws_other_answers() -> None:
    assert read(Extractor(), episodes(8)).raw != read(Extractor(), episodes(8), seed=6).raw


@pytest.mark.parametrize("with_previous", [True, False])
@pytest.mark.parametrize("reproducible", [True, False])
@pytest.mark.parametrize("killed_after", range(13))
def test_a_killed_extraction_ends_with_the_same_bytes(
    with_previous: bool, reproducible: bool, killed_after: int
) -> None:
    config = ExtractConfig(with_previous=with_previous)
    played: dict[int, list[Trajectory]] = {replica: episodes(4, replica) for replica in (4, 1, 7)}
    played[1][2] = episode("r01-extract-k01-e0002", error="fell apart")
    whole = read_all(Extractor(batch_size=2), played, config=config)
    rows: dict[int, list[RawOutput]] = {replica: [] for replica in played}

    def write(replica: int, row: RawOutput) -> None:
        if sum(map(len, rows.values())) == killed_after:
            raise Killed
        rows[replica].append(RawOutput.model_validate_json(row.model_dump_json()))

    first = Extractor(batch_size=2, reproducible=reproducible)
    if killed_after < 12:
        with pytest.raises(Killed):
            read_all(first, played, config=config, on_row=write)
    else:
        read_all(first, played, config=config, on_row=write)
    killed_after = -1
    second = Extractor(batch_size=2, reproducible=reproducible)
    done = {replica: tuple(found) for replica, found in rows.items()}
    assert read_all(second, played, config=config, done=done, on_row=write) == whole
    assert {replica: tuple(found) for replica, found in rows.items()} == {
        replica: result.raw for replica, result in whole.items()
    }
    if reproducible:
        assert set(second.batches) <= set(batches_of(played, config))


def batches_of(played: Mapping[int, Sequence[Trajectory]], config: ExtractConfig) -> list[tuple[Request, ...]]:
    policy = Extractor(batch_size=2)
    read_all(policy, played, config=config)
    return policy.batches


def test_rows_of_other_episodes_are_refused() -> None:
    rows = read(Extractor(), episodes(2)).raw
    with pytest.raises(ArtifactError, match="row 2 is about episode r01-extract-k00-e0001, expected other"):
        read(Extractor(), [episodes(1)[0], episode("other")], done=rows)
    with pytest.raises(ArtifactError, match=r"row 2 .* expected no more rows"):
        read(Extractor(), episodes(1), done=rows)


def test_using_more_episodes_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="use_after is 3, but replica 0 has 2 episodes"):
        read(Extractor(), episodes(2), config=ExtractConfig(use_after=3))
