"""The stages with scripted policies: outputs, and resuming after kills."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from oel_core import envs
from oel_core.config.run import ModelConfig, OelConfig, parse_config
from oel_core.config.sampling import Sampling
from oel_core.errors import ArtifactError, ConfigError, ExtractionError
from oel_core.knowledge.store import load_knowledge
from oel_core.policies.base import Completion, Policy, Request
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.rounds import round as rounds
from oel_core.rounds.context import StageContext
from oel_core.rounds.prompts import partial_rollouts
from oel_core.rounds.round import Round
from oel_core.rounds.summary import summarise_run
from oel_core.runs.folder import RunFolder, open_run
from oel_core.runs.jsonl import read_jsonl
from oel_core.seeds import derive_seed
from oel_core.stages.accumulate import accumulate
from oel_core.stages.collect import collect
from oel_core.stages.evaluate import evaluate, parts
from oel_core.stages.extract import extract
from oel_core.types import Message, Split, Trajectory

TRUTH = "- EXPERIENCE ITEM: the goal is to the right"


class Killed(BaseException):
    """Stands for SIGKILL."""


def player(messages: tuple[Message, ...], seed: int) -> str:
    """Extracts one item an episode; plays right when it knows so, else by chance."""
    if "study one finished episode" in messages[0].content:
        return f"{TRUTH}\n- EXPERIENCE ITEM: seen {seed % 1000}"
    knows = TRUTH in messages[0].content
    return f"I go [{'right' if knows or derive_seed('player', seed) % 2 else 'left'}]"


def load_scripted(path: str, config: ModelConfig) -> Policy:
    return ScriptedPolicy(player, batch_size=4)


def config(**values: Any) -> OelConfig:
    base: dict[str, Any] = {
        "environment": {"name": "corridor", "max_turns": 4},
        "collect": {"replicas": 2, "extraction_episodes": 5},
        "extract": {"use_after": 3},
        "knowledge": {"max_tokens": 400, "carry_over": True},
        "distill": {"steps": 3, "episodes_per_step": 2},
        "evaluate": {"games": {"episodes": 6}},
    }
    return parse_config(base | values, "test")


@pytest.fixture(autouse=True)
def _world(monkeypatch: pytest.MonkeyPatch) -> None:
    """A corridor in the registry, and no real model behind the run."""
    monkeypatch.setitem(envs.REGISTRY, "corridor", "tests.fakes:CorridorEnv")
    monkeypatch.setattr(rounds, "model_digest", lambda path: "base")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return open_run(tmp_path, "run")


def first_round(run: RunFolder, configuration: OelConfig) -> None:
    collect(Round(configuration, run, 1), StageContext(load_scripted))
    extract(Round(configuration, run, 1), StageContext(load_scripted))
    accumulate(Round(configuration, run, 1), StageContext(load_scripted))


def trajectories(run: RunFolder) -> list[Trajectory]:
    return list(read_jsonl(run.stage_path(1, "collect") / "trajectories.jsonl", Trajectory))


def without_time(run: RunFolder) -> list[str]:
    return [re.sub(r'"wall_s":[^,}]+', "", episode.model_dump_json()) for episode in trajectories(run)]


def test_a_round_collects_for_both_uses_and_never_shows_knowledge(run: RunFolder) -> None:
    manifest = collect(Round(config(), run, 1), StageContext(load_scripted))
    episodes = trajectories(run)
    assert manifest.counts["episodes"] == len(episodes) == 2 * 5 + 3 * 2
    assert len({episode.id for episode in episodes}) == len({episode.seed for episode in episodes}) == 16
    assert sum(episode.split is Split.EXTRACT for episode in episodes) == 10
    assert all(episode.knowledge_digest is None for episode in episodes)


@pytest.mark.parametrize("killed_after", [0, 1, 3, 4, 7, 15, 16])
def test_collection_goes_on_after_a_kill_without_losing_or_doubling(tmp_path: Path, killed_after: int) -> None:
    reference = open_run(tmp_path, "reference")
    collect(Round(config(), reference, 1), StageContext(load_scripted))
    run = open_run(tmp_path, "run")

    def on_progress(done: int, total: int) -> None:
        if done > killed_after:
            raise Killed

    if killed_after < 16:
        with pytest.raises(Killed):
            collect(Round(config(), run, 1), StageContext(load_scripted, on_progress))
        partial = run.stage_path(1, ".collect.partial") / "trajectories.jsonl"
        with partial.open("ab") as file:
            file.write(b'{"id": "torn')
    collect(Round(config(), run, 1), StageContext(load_scripted))
    assert without_time(run) == without_time(reference)


def test_a_policy_that_differs_each_time_plays_only_what_is_missing(run: RunFolder) -> None:
    played: list[int] = []

    class Unsteady(ScriptedPolicy):
        reproducible = False

        def generate(self, requests: Any, sampling: Any) -> Any:
            played.append(len(requests))
            return super().generate(requests, sampling)

    def on_progress(done: int, total: int) -> None:
        if done > 5:
            raise Killed

    with pytest.raises(Killed):
        collect(Round(config(), run, 1), StageContext(lambda path, model: Unsteady(player, batch_size=4), on_progress))
    played.clear()
    collect(Round(config(), run, 1), StageContext(lambda path, model: Unsteady(player, batch_size=4)))
    assert played[0] == 4
    assert len({episode.id for episode in trajectories(run)}) == len(trajectories(run)) == 16


def test_items_become_knowledge_with_provenance(run: RunFolder) -> None:
    first_round(run, config())
    knowledge = load_knowledge(run.stage_path(1, "accumulate"), 1)
    assert knowledge.items[0].text == TRUTH
    assert knowledge.items[0].sources == tuple(f"r01-extract-k01-e{index:04d}" for index in range(3))
    assert len(knowledge.items) == 4
    sizes = json.loads((run.stage_path(1, "extract/replica_01") / "sizes.json").read_text())
    assert len(sizes["tokens"]) == 5
    assert sizes["used_tokens"] == knowledge.tokens


@pytest.mark.parametrize("killed_after", [1, 4, 5, 9])
def test_extraction_goes_on_after_a_kill_with_the_same_bytes(tmp_path: Path, killed_after: int) -> None:
    texts = []
    for name in ("reference", "run"):
        run = open_run(tmp_path, name)
        collect(Round(config(), run, 1), StageContext(load_scripted))

        def on_progress(done: int, total: int) -> None:
            if done >= killed_after:
                raise Killed

        if name == "run":
            with pytest.raises(Killed):
                extract(Round(config(), run, 1), StageContext(load_scripted, on_progress))
        extract(Round(config(), run, 1), StageContext(load_scripted))
        accumulate(Round(config(), run, 1), StageContext(load_scripted))
        texts.append((run.stage_path(1, "accumulate") / "knowledge_00.md").read_bytes())
    assert texts[0] == texts[1] != b""


def test_replicas_are_read_side_by_side(run: RunFolder) -> None:
    class Counting(ScriptedPolicy):
        def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
            asked.append(len(requests))
            return super().generate(requests, sampling)

    asked: list[int] = []
    seen: list[tuple[int, int]] = []
    collect(Round(config(), run, 1), StageContext(load_scripted))
    given = StageContext(
        lambda path, model: Counting(player, batch_size=4), lambda done, total: seen.append((done, total))
    )
    assert extract(Round(config(), run, 1), given).counts["episodes"] == 10
    assert asked == [2] * 5  # one episode of each replica: each is read with what its replica knows so far
    assert seen == [(done, 10) for done in range(1, 11)]


def test_an_extractor_that_writes_nothing_usable_is_counted_and_an_error(run: RunFolder) -> None:
    def mute(path: str, model: ModelConfig) -> Policy:
        return ScriptedPolicy(lambda messages, seed: "I have nothing to say", batch_size=4)

    collect(Round(config(), run, 1), StageContext(mute))
    assert extract(Round(config(), run, 1), StageContext(mute)).counts["empty_outputs"] == 10
    with pytest.raises(ExtractionError, match=r"all knowledge files \(2\) are empty.*knowledge\.allow_empty"):
        accumulate(Round(config(), run, 1), StageContext(mute))
    wanted = config(knowledge={"max_tokens": 400, "carry_over": True, "allow_empty": True})
    with pytest.raises(ArtifactError, match=r"knowledge\.allow_empty: False → True"):
        accumulate(Round(wanted, run, 1), StageContext(mute))


def test_every_turn_of_a_steps_episodes_is_a_prompt_of_that_step(run: RunFolder) -> None:
    collect(Round(config(), run, 1), StageContext(load_scripted))
    episodes = Round(config(), run, 1).trajectories(Split.DISTILL)
    steps = partial_rollouts(config(), episodes)
    assert [len(step) for step in steps] == [
        sum(len(episode.turns) for episode in episodes[first : first + 2]) for first in (0, 2, 4)
    ]
    assert steps[1][0].trajectory_id == "r01-distill-k00-e0002"


def test_the_arms_play_the_same_episodes_and_differ_in_what_is_read(run: RunFolder) -> None:
    first_round(run, config())
    evaluate(Round(config(), run, 0), "held_out", StageContext(load_scripted))
    for arm in ("in_context", "raw"):
        evaluate(Round(config(), run, 1), arm, StageContext(load_scripted))
    ids = []
    for round_index, part in [(0, "held_out"), (1, "in_context"), (1, "raw")]:
        folder = run.stage_path(round_index, f"evaluate/{part}")
        ids.append([episode.seed for episode in read_jsonl(folder / "episodes.jsonl", Trajectory)])
    assert sorted(ids[0]) == sorted(ids[1]) == sorted(ids[2])
    base, taught, raw = (
        Round(config(), run, number).report(part) for number, part in [(0, "held_out"), (1, "in_context"), (1, "raw")]
    )
    assert base is not None
    assert taught is not None
    assert raw is not None
    assert base.episodes == taught.episodes == raw.episodes == 6
    assert taught.passed == sum(seed // 3 % 2 for seed in ids[1])  # always right, and the goal is there for these


def test_parts_and_rows(run: RunFolder) -> None:
    configuration = config()
    assert parts(configuration, 0) == ["held_out"]
    assert parts(configuration, 1) == ["in_context", "raw", "held_out"]
    with pytest.raises(ConfigError, match="round 0 has no evaluation 'raw'"):
        evaluate(Round(configuration, run, 0), "raw", StageContext(load_scripted))
    with pytest.raises(ArtifactError, match=r"round_01/accumulate has not finished"):
        evaluate(Round(configuration, run, 1), "in_context", StageContext(load_scripted))
    evaluate(Round(configuration, run, 0), "held_out", StageContext(load_scripted))
    (run.path / "config.yaml").write_text("rounds: 2\n")
    rows = summarise_run(run)
    assert [(row.round, row.in_context_pass_rate, row.knowledge_tokens) for row in rows] == [(0, None, None)]
    assert rows[0].ci95 is not None
    assert rows[0].ci95[0] <= (rows[0].pass_rate or 0) <= rows[0].ci95[1]


def test_a_corrupt_line_of_the_collected_episodes_is_named(run: RunFolder) -> None:
    collect(Round(config(), run, 1), StageContext(load_scripted))
    path = run.stage_path(1, "collect") / "trajectories.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4][:40] + b"\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(ArtifactError, match=r"trajectories\.jsonl, line 5 is not a whole Trajectory"):
        extract(Round(config(), run, 1), StageContext(load_scripted))
