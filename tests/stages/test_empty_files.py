"""Replicas whose episodes gave no item: counted, left out of distillation, and an error where no replica has any."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from oel_core import envs
from oel_core.config.run import ModelConfig, OelConfig
from oel_core.config.sampling import Sampling
from oel_core.distillation.training import run as training
from oel_core.policies.base import Completion, Policy, Request
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.rounds import round as rounds
from oel_core.rounds.context import StageContext
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, open_run
from oel_core.runs.jsonl import read_jsonl
from oel_core.stages import distill as stage
from oel_core.stages.accumulate import accumulate
from oel_core.stages.collect import collect
from oel_core.stages.evaluate import evaluate
from oel_core.stages.extract import extract
from oel_core.stages.select import select
from oel_core.types import Trajectory
from tests.stages import test_stages
from tests.stages.test_distill import Seen


class Sparse(ScriptedPolicy):
    """Extracts something from the first replica's episodes only."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        found = super().generate(requests, sampling)
        if "study one finished episode" not in requests[0].messages[0].content:
            return found
        nothing = ScriptedPolicy(lambda messages, seed: "I have nothing to say").generate(requests, sampling)
        return [found[0], *nothing[1:]]


def load(path: str, model: ModelConfig) -> Policy:
    return Sparse(test_stages.player, batch_size=4)


def config(**values: Any) -> OelConfig:
    return test_stages.config(collect={"replicas": 3, "extraction_episodes": 5}, **values)


@pytest.fixture(autouse=True)
def _world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(envs.REGISTRY, "corridor", "tests.fakes:CorridorEnv")
    monkeypatch.setattr(rounds, "model_digest", lambda path: "base")


def accumulated(root: Path, configuration: OelConfig) -> RunFolder:
    run = open_run(root, "run")
    collect(Round(configuration, run, 1), StageContext(load))
    extract(Round(configuration, run, 1), StageContext(load))
    accumulate(Round(configuration, run, 1), StageContext(load))
    return run


def test_files_without_items_are_counted_named_and_not_distilled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def look(**given: Any) -> Path:
        raise Seen(given)

    with caplog.at_level(logging.WARNING):
        run = accumulated(tmp_path, config())
    assert "round 1: 2 of 3 knowledge files are empty (of replica 1, 2): the others are distilled" in caplog.text
    assert run.manifest(1, "accumulate").counts["empty"] == 2
    monkeypatch.setattr(training, "distill", look)
    with pytest.raises(Seen) as caught:
        stage.distill(Round(config(), run, 1))
    assert [entry.replica for entry in caught.value.given["knowledge"]] == [0]
    assert caught.value.given["weights"] is None
    assert not caught.value.given["allow_empty"]


def test_the_in_context_arm_never_plays_without_knowledge(tmp_path: Path) -> None:
    run = accumulated(tmp_path, config())
    evaluate(Round(config(), run, 1), "in_context", StageContext(load))
    played = list(read_jsonl(run.stage_path(1, "evaluate/in_context") / "episodes.jsonl", Trajectory))
    assert len(played) == 6
    assert len({episode.knowledge_digest for episode in played} - {None}) == 1
    assert all(episode.knowledge_digest for episode in played)


def test_the_next_round_goes_on_from_an_empty_file_with_nothing(tmp_path: Path) -> None:
    """Replicas stay independent: none takes over what another one has extracted."""
    run = accumulated(tmp_path, config())
    carried = Round(config(), run, 2).previous_knowledge()
    assert [carried[replica].blank for replica in range(3)] == [False, True, True]


@pytest.mark.parametrize("use", ["best", "top_m", "weighted"])
def test_an_empty_file_is_never_selected(tmp_path: Path, use: str) -> None:
    """Not even where it is the shortest of equally good ones, or fewer than m have items."""
    configuration = config(knowledge={"max_tokens": 400, "selection": {"use": use, "m": 2, "episodes": 4}})
    run = accumulated(tmp_path, configuration)
    select(Round(configuration, run, 1), StageContext(load))
    assert [entry.replica for entry in Round(configuration, run, 1).knowledge().knowledge] == [0]
