"""What the distill stage hands to a distillation, by its regime."""

from pathlib import Path
from typing import Any

import pytest

from oel_core import envs
from oel_core.config.run import OelConfig
from oel_core.distillation.training import run as training
from oel_core.errors import ArtifactError, ConfigError
from oel_core.rounds import round as rounds
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, open_run, stage_key
from oel_core.runs.round_start import RoundStart, write_start
from oel_core.stages import distill as stage
from oel_core.types import Split
from tests.stages.test_stages import config, first_round


class Seen(Exception):
    """Carries what a distillation was called with, and ends the stage."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given


@pytest.fixture(autouse=True)
def _world(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(**given: Any) -> Path:
        raise Seen(given)

    monkeypatch.setitem(envs.REGISTRY, "corridor", "tests.fakes:CorridorEnv")
    monkeypatch.setattr(rounds, "model_digest", lambda path: "base")
    monkeypatch.setattr(training, "distill", look)


def handed_over(configuration: OelConfig, run: RunFolder) -> dict[str, Any]:
    first_round(run, configuration)
    with pytest.raises(Seen) as caught:
        stage.distill(Round(configuration, run, 1))
    return caught.value.given


def test_sft_gets_every_turn_of_passed_episodes_and_its_exact_tokens(tmp_path: Path) -> None:
    configuration = config(distill={"steps": 3, "episodes_per_step": 2, "regime": "sft"})
    run = open_run(tmp_path, "run")
    given = handed_over(configuration, run)
    episodes = Round(configuration, run, 1).trajectories(Split.DISTILL)
    passed = {episode.id for episode in episodes if episode.passed}
    assert 0 < len(passed) < len(episodes)
    assert {prompt.trajectory_id for step in given["steps"] for prompt in step} == passed
    assert given["responses"] == {
        f"{episode.id}/turn{number}": turn.response_ids
        for episode in episodes
        if episode.passed
        for number, turn in enumerate(episode.turns)
    }


def test_other_regimes_get_all_prompts_and_no_responses(tmp_path: Path) -> None:
    given = handed_over(config(), open_run(tmp_path, "run"))
    assert given["responses"] is None
    assert sum(map(len, given["steps"])) > 6


def test_missing_replay_file_is_found_before_anything_is_loaded(tmp_path: Path) -> None:
    lost = str(tmp_path / "general.jsonl")
    configuration = config(
        distill={"steps": 3, "episodes_per_step": 2, "retention": {"replay": {"path": lost}}},
    )
    run = open_run(tmp_path, "run")
    first_round(run, configuration)
    with pytest.raises(ArtifactError, match=r"distill\.retention\.replay\.path: .*general\.jsonl cannot be read"):
        stage.distill(Round(configuration, run, 1))


def test_the_teachers_prompts_carry_knowledge_as_configured(tmp_path: Path) -> None:
    configuration = config(knowledge={"max_tokens": 400, "injection": {"mode": "step_wise", "items": 2}})
    given = handed_over(configuration, open_run(tmp_path, "run"))
    assert (given["injection"].mode, given["injection"].items) == ("step_wise", 2)


def test_a_student_from_the_base_model_learns_from_episodes_of_the_rounds_start(tmp_path: Path) -> None:
    configuration = config(distill={"steps": 3, "episodes_per_step": 2, "start": "base"})
    run = open_run(tmp_path, "run")
    run.perform(stage_key(configuration, 4, "distill", ["seed"], {}), lambda folder: {})
    write_start(run, 1, RoundStart(parent=4, knowledge=None, trigger="one"))
    given, round = handed_over(configuration, run), Round(configuration, run, 1)
    assert given["start"] == configuration.model.path
    assert round.stage("collect").manifest().key.inputs["policy"] == round.at(4).model_digest() != "base"
    assert stage.inputs_of(round)["policy"] == "base"


def test_an_average_with_the_base_model_has_one_name() -> None:
    with pytest.raises(ConfigError, match=r"start is base.* set retention\.base_share"):
        config(distill={"start": "base", "retention": {"start_share": 0.5}})
