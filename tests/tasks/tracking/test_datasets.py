"""Datasets in a real MLflow database: a round's own experience, and one held-out set for all rounds."""

import json
from pathlib import Path

import pytest

from oel_core.config.run import OelConfig, parse_config
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, adopt_config, open_run, stage_key
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.types import Split, Trajectory
from tasks.tracking.client import Tracker
from tasks.tracking.datasets import experience, measured
from tasks.tracking.settings import TrackingSettings
from tests.builders import episode

CONFIG = parse_config({"evaluate": {"ood": {"other_symbols": {"episodes": 2}}}}, "test")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TrackingSettings:
    return TrackingSettings().resolved(tmp_path_factory.mktemp("tracking"), "run")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = open_run(tmp_path, "run")
    adopt_config(folder, CONFIG)
    return folder


def leave(run: RunFolder, round_index: int, stage: str, file: str, episodes: list[Trajectory]) -> None:
    """A finished stage with these episodes."""

    def work(folder: Path) -> dict[str, float]:
        (folder / file).write_bytes(jsonl_bytes(episodes))
        return {"episodes": len(episodes), "passed": 1}

    run.perform(stage_key(OelConfig(), round_index, stage, (), {}), work)


def played(*rewards: float) -> list[Trajectory]:
    return [episode(f"e{n}", seed=n, reward=reward, split=Split.HELD_OUT) for n, reward in enumerate(rewards)]


def test_a_round_was_trained_on_its_own_experience(settings: TrackingSettings, run: RunFolder) -> None:
    leave(run, 1, "collect", "trajectories.jsonl", played(0, 1))
    tracker = Tracker(settings, run)
    for _ in range(2):
        tracker.log_dataset("1", experience(Round(CONFIG, run, 1), "collect"))
    (found,) = tracker.client.get_run(tracker.run_id("1")).inputs.dataset_inputs
    assert {tag.key: tag.value for tag in found.tags} == {"mlflow.data.context": "training"}
    assert found.dataset.name == "run round 1 experience"
    assert json.loads(found.dataset.profile) == {"episodes": 2, "passed": 1}
    assert json.loads(found.dataset.source)["uri"].endswith("round_01/collect/trajectories.jsonl")


def test_all_rounds_are_measured_on_the_same_set_whatever_came_of_it(run: RunFolder) -> None:
    leave(run, 0, "evaluate/held_out", "episodes.jsonl", played(0, 0))
    leave(run, 1, "evaluate/held_out", "episodes.jsonl", played(1, 0)[::-1])
    leave(run, 2, "evaluate/held_out", "episodes.jsonl", played(1, 0, 1))
    first, second, longer = (measured(Round(CONFIG, run, index), "evaluate/held_out") for index in range(3))
    assert first == second
    assert longer.digest != first.digest
    assert (longer.name, longer.profile) == ("lake held out", {"episodes": 3})


def test_a_suite_is_a_set_of_its_own(run: RunFolder) -> None:
    for stage in ("evaluate/held_out", "evaluate/ood/other_symbols"):
        leave(run, 1, stage, "episodes.jsonl", played(0, 0))
    plain, suite = (
        measured(Round(CONFIG, run, 1), stage) for stage in ("evaluate/held_out", "evaluate/ood/other_symbols")
    )
    assert suite.name == "lake other_symbols"
    assert suite.digest != plain.digest
    assert suite.source == {"environment": "lake", "options": {"episodes": 2}}
