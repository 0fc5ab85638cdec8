"""Items are screened and merged once, during extraction; episodes are parsed once per stage."""

from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from oel_core import envs
from oel_core.config.run import ModelConfig, OelConfig, parse_config
from oel_core.knowledge import store
from oel_core.policies.base import Policy
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.rounds import round as rounds
from oel_core.rounds.context import StageContext
from oel_core.rounds.round import Round
from oel_core.runs.folder import open_run
from oel_core.runs.manifest import read_record
from oel_core.stages.accumulate import accumulate
from oel_core.stages.collect import collect
from oel_core.stages.evaluate import evaluate
from oel_core.stages.extract import extract
from oel_core.stages.saturation import CURVE, SaturationCurve, saturation
from oel_core.types import Message


def player(messages: tuple[Message, ...], seed: int) -> str:
    if "study one finished episode" in messages[0].content:
        return f"- EXPERIENCE ITEM: note {seed % 1000} says go right"
    return "I go [right]"


def load(path: str, model: ModelConfig) -> Policy:
    return ScriptedPolicy(player, batch_size=4)


def config(**knowledge: Any) -> OelConfig:
    values: dict[str, Any] = {
        "environment": {"name": "corridor", "max_turns": 4},
        "collect": {"replicas": 3, "extraction_episodes": 4},
        "knowledge": {"max_tokens": 400} | knowledge,
        "distill": {"steps": 1, "episodes_per_step": 1},
        "evaluate": {"games": {"episodes": 2, "arms": ["in_context", "raw"]}},
    }
    return parse_config(values, "test")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often items were screened and merged, and collected episodes were read."""
    monkeypatch.setitem(envs.REGISTRY, "corridor", "tests.fakes:CorridorEnv")
    monkeypatch.setattr(rounds, "model_digest", lambda path: "base")
    found: Counter[str] = Counter()

    def counted(owner: Any, name: str, label: str) -> None:
        real = getattr(owner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            found[label] += 1
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, call)

    counted(import_module("oel_core.knowledge.hygiene.screen"), "inspect", "screened")
    counted(store, "_cut", "merged")
    counted(Round, "trajectories", "episodes read")
    return found


def test_only_extraction_screens_and_merges(tmp_path: Path, calls: Counter[str]) -> None:
    configuration = config(hygiene={"policy": "flag"}, saturation={"every": 1, "episodes": 2})
    round, context = Round(configuration, open_run(tmp_path, "run"), 1), StageContext(load)
    collect(round, context)
    extract(round, context)
    assert calls == {"screened": 12, "merged": 12, "episodes read": 1}  # one item an episode
    accumulate(round, context)
    saturation(round, context)
    evaluate(round, "in_context", context)
    assert calls == {"screened": 12, "merged": 12, "episodes read": 1}


def test_raw_episodes_are_parsed_once_for_all_replicas(tmp_path: Path, calls: Counter[str]) -> None:
    round, context = Round(config(source={"use": "raw"}), open_run(tmp_path, "run"), 1), StageContext(load)
    collect(round, context)
    accumulate(round, context)
    assert calls == {"episodes read": 1}
    evaluate(round, "raw", context)
    assert calls == {"episodes read": 2}


def test_a_curve_reads_the_states_that_accumulation_reads(tmp_path: Path, calls: Counter[str]) -> None:
    configuration = config(saturation={"every": 2, "episodes": 2})
    round, context = Round(configuration, open_run(tmp_path, "run"), 1), StageContext(load)
    for stage in (collect, extract, accumulate, saturation):
        stage(round, context)
    tokens = {entry.replica: entry.tokens for entry in round.merged_knowledge()}
    curve = read_record(round.stage("saturation").path / CURVE, SaturationCurve)
    assert {
        point.replica: point.tokens for point in curve.points if point.episodes == configuration.use_after
    } == tokens
