"""An environment whose options change at a round: what is played, what stage keys say, resuming, and errors."""

import json
from pathlib import Path
from typing import Any

import pytest

from oel_core import envs
from oel_core.config.run import ModelConfig, OelConfig, load_config, parse_config
from oel_core.envs import make_env
from oel_core.envs.base import env_spec
from oel_core.errors import ArtifactError, ConfigError
from oel_core.policies.base import Policy
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.preflight.check import check_experience
from oel_core.projects.settings import RequestedSettings, requested_config
from oel_core.rounds.context import EPISODES, TRAJECTORIES, StageContext
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, adopt_config, open_run
from oel_core.runs.jsonl import read_jsonl
from oel_core.stages.collect import collect
from oel_core.stages.evaluate import evaluate
from oel_core.stages.measure import measure
from oel_core.types import Trajectory

CHANGES = [{"round": 2, "options": {"size": 5}}, {"round": 4, "options": {"pad": 3}}]


def load(path: str, model: ModelConfig) -> Policy:
    return ScriptedPolicy(lambda messages, seed: "[right]", batch_size=4)


def config(changes: Any = CHANGES, size: int = 3) -> OelConfig:
    values = {
        "rounds": 4,
        "environment": {"name": "corridor", "options": {"size": size}, "max_turns": 4, "changes": changes},
        "collect": {"replicas": 1, "extraction_episodes": 2},
        "distill": {"steps": 1, "episodes_per_step": 2},
        "evaluate": {"games": {"episodes": 3}},
    }
    return parse_config(values, "test")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setitem(envs.REGISTRY, "corridor", "tests.fakes:CorridorEnv")
    monkeypatch.setattr("oel_core.rounds.round.model_digest", lambda path: "base")
    monkeypatch.setattr(Round, "start_digest", lambda self: "start")
    monkeypatch.setattr(Round, "start_model", lambda self: "start")
    monkeypatch.setattr(Round, "model", lambda self: "model")
    return open_run(tmp_path, "run")


def play(run: RunFolder, settings: OelConfig, number: int) -> None:
    """The stages of a round that play."""
    if number:
        collect(Round(settings, run, number), StageContext(load))
    evaluate(Round(settings, run, number), "held_out", StageContext(load))


def boards(run: RunFolder, number: int, stage: str, file: str) -> set[str]:
    """The first observations of a stage's episodes, in a corridor whose even seeds have no padding."""
    played = read_jsonl(run.stage_path(number, stage) / file, Trajectory)
    return {episode.turns[0].messages[-1].content.rstrip(".") for episode in played}


@pytest.fixture
def played(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setattr(Round, "model_digest", lambda self: f"model {self.number}")
    adopt_config(run, config())
    for number in range(5):
        play(run, config(), number)
    return run


def test_each_round_plays_and_evaluates_in_its_own_world(played: RunFolder) -> None:
    narrow, wide = {"_@_"}, {"_@___"}
    assert [boards(played, number, "evaluate/held_out", EPISODES) for number in range(5)] == [narrow] * 2 + [wide] * 3
    assert [boards(played, number, "collect", TRAJECTORIES) for number in range(1, 5)] == [narrow] + [wide] * 3


def test_keys_differ_from_the_change_on_and_name_the_options_alone(played: RunFolder) -> None:
    for stage in ("collect", "evaluate/held_out"):
        keys = {number: played.manifest(number, stage).key.config for number in range(1, 5)}
        options = [{name[20:]: value for name, value in key.items() if "options." in name} for key in keys.values()]
        assert options == [{"size": 3}, {"size": 5}, {"size": 5}, {"size": 5, "pad": 3}]
        assert not any("changes" in name for key in keys.values() for name in key)
        without_options = [{name: v for name, v in key.items() if "options." not in name} for key in keys.values()]
        assert without_options == [without_options[0]] * 4


def test_a_run_resumes_and_later_changes_leave_finished_rounds_alone(played: RunFolder) -> None:
    began = [path.stat().st_mtime_ns for path in sorted(played.path.rglob("manifest.json"))]
    added = [*CHANGES, {"round": 5, "options": {"size": 4}}]
    adopt_config(played, config(added))
    for number in range(5):
        play(played, config(added), number)
    assert [path.stat().st_mtime_ns for path in sorted(played.path.rglob("manifest.json"))] == began
    assert played.config().environment.changes[2].round == 5


def test_a_change_moved_into_a_finished_round_is_refused_by_the_name_of_the_option(played: RunFolder) -> None:
    moved = [{"round": 3, "options": {"size": 5}}, CHANGES[1]]
    with pytest.raises(ArtifactError, match=r"round_02/collect[\s\S]*environment.options.size: 5 → 3"):
        adopt_config(played, config(moved))


def test_a_finished_run_without_changes_has_the_keys_that_it_had(run: RunFolder) -> None:
    plain, later = config([]), config([{"round": 3, "options": {"size": 5}}])
    collect(Round(plain, run, 1), StageContext(load))
    adopt_config(run, later)
    collect(Round(later, run, 1), StageContext(load))
    path = run.stage_path(1, "collect") / "manifest.json"
    assert "changes" not in json.dumps(json.loads(path.read_text())["key"])


def test_a_model_is_measured_in_the_world_that_it_is_asked_about(tmp_path: Path, run: RunFolder) -> None:
    for name, number, board in (("old", 1, "_@_"), ("new", 2, "_@___")):
        measure(
            tmp_path / name, config().at_round(number), "seed-lm", "games", {"episodes": 2}, context=StageContext(load)
        )
        found = read_jsonl(tmp_path / name / EPISODES, Trajectory)
        assert {episode.turns[0].messages[-1].content.rstrip(".") for episode in found} == {board}


@pytest.mark.parametrize(
    ("name", "option", "before", "after"),
    [
        (
            "lake",
            "symbols",
            {"hole": "H", "trap": "X", "key": "K", "goal": "G"},
            {"hole": "G", "trap": "X", "key": "K", "goal": "H"},
        ),
        (
            "textworld_relics",
            "symbols",
            {"curses": "MT", "key": "S", "treasure": "B"},
            {"curses": "MB", "key": "S", "treasure": "T"},
        ),
        ("tools", "tool", 4, 5),
    ],
)
def test_the_shipped_worlds_can_change_their_rules(name: str, option: str, before: Any, after: Any) -> None:
    world = {
        "name": name,
        "options": {option: before},
        "max_turns": 10,
        "changes": [{"round": 3, "options": {option: after}}],
    }
    settings = parse_config({"environment": world}, "test")
    check_experience(settings)
    opened: Any = [make_env(env_spec(settings.at_round(number)), 7) for number in (2, 3)]
    old, new = (made.truths() for made in opened)
    assert old != new
    for made in opened:
        made.close()


def test_wrong_options_of_a_change_are_named_before_anything_is_played() -> None:
    world = {"name": "lake", "changes": [{"round": 2, "options": {"holes": 4}}, {"round": 3, "options": {"sise": 5}}]}
    with pytest.raises(
        ConfigError, match=r"environment\.changes\.1, from round 3 on: environment 'lake': sise: no such"
    ):
        check_experience(parse_config({"environment": world}, "test"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([{"round": 1, "options": {"size": 4}}], r"environment\.changes\.0\.round: .*greater than or equal to 2"),
        ([{"round": 3, "options": {}}], r"changes\.0\.options is empty"),
        ([CHANGES[1], CHANGES[0]], r"changes\.1\.round is 2, after one at round 4: sort them"),
        ([{"round": 3}], r"environment\.changes\.0\.options: is missing"),
    ],
)
def test_changes_that_cannot_be_are_refused(changes: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config(changes)


def test_a_change_can_be_named_on_the_command_line() -> None:
    settings = load_config("tiny", ["environment.changes=[{round: 2, options: {size: 5}}]"])
    assert settings.at_round(2).environment.options["size"] == 5
    assert settings.at_round(1).environment.options == settings.environment.options


def test_a_project_plans_changes_only_with_a_gate_that_plays_both_models(tmp_path: Path) -> None:
    planned = "environment.changes=[{round: 2, options: {size: 5}}]"
    run = RunFolder(tmp_path / "project")
    with pytest.raises(ConfigError, match=r"bootstrap.*Set gate\.test=sequential.*environment\.options"):
        requested_config(run, RequestedSettings(preset="tiny", overrides=(planned,)))
    asked = RequestedSettings(preset="tiny", overrides=(planned, "gate.test=sequential"))
    assert requested_config(run, asked).at_round(2).environment.options["size"] == 5
