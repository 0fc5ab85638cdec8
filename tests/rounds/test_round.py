"""A round's start model, previous knowledge, and stage folders."""

from pathlib import Path

import pytest

from oel_core.config.run import OelConfig, parse_config
from oel_core.errors import ArtifactError
from oel_core.knowledge.store import load_knowledge, write_knowledge
from oel_core.rounds.round import Round
from oel_core.runs.round_start import RoundStart, write_start
from oel_core.types import ExperienceItem, Knowledge
from tests.runs_on_disk import finished_run


def config(**more: object) -> OelConfig:
    return parse_config({"collect": {"replicas": 3}, "knowledge": {"carry_over": True}} | more, "test")


def leave_knowledge(round: Round, stage: str, replicas: int) -> None:
    """Finishes a stage that leaves a knowledge file for each replica."""

    def work(folder: Path) -> dict[str, float]:
        for replica in range(replicas):
            text = f"{stage} of round {round.number}, replica {replica}"
            items = (ExperienceItem(text=text, sources=(), round=round.number, format="itemised", model="m"),)
            write_knowledge(folder, replica, Knowledge(replica=replica, round=1, items=items, text=text, tokens=1))
        return {}

    round.perform(stage, (), {}, work)


def test_a_round_starts_from_the_one_before_it_or_from_the_champion(tmp_path: Path) -> None:
    third = Round(config(), finished_run(tmp_path, "run"), 3)
    assert third.parent.number == 2
    assert third.start_model() == str(third.at(2).stage("distill").path / "checkpoint")
    assert third.start_digest() == third.at(2).stage("distill").digest()
    write_start(third.run, 3, RoundStart(parent=1, knowledge=None, trigger="one"))
    assert third.parent.number == 1
    write_start(third.run, 3, RoundStart(parent=0, knowledge=None, trigger="one"))
    assert third.start_model() == third.config.model.path


def test_knowledge_is_extracted_by_the_rounds_start_or_by_the_base_model(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "run")
    policy, base = (Round(config(extract={"model": model}), run, 3) for model in ("policy", "base"))
    assert (policy.extractor(), policy.extractor_digest()) == (policy.start_model(), policy.start_digest())
    assert (base.extractor(), base.extractor_digest()) == (base.config.model.path, base.at(0).model_digest())
    assert base.extractor_digest() != base.start_digest()


def test_the_student_starts_from_the_rounds_start_or_from_the_base_model(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "run")
    policy, base = (Round(config(distill={"start": start}), run, 3) for start in ("policy", "base"))
    assert (policy.student(), policy.student_digest()) == (policy.start_model(), policy.start_digest())
    assert (base.student(), base.student_digest()) == (base.config.model.path, base.at(0).model_digest())
    assert base.start_model() == policy.start_model() != base.student()


def test_a_stage_says_whether_it_has_finished(tmp_path: Path) -> None:
    round = Round(config(), finished_run(tmp_path, "run", rounds=1), 1)
    assert round.stage("distill").path == round.path / "distill"
    assert [round.stage(name).finished for name in ("distill", "collect", "evaluate/held_out")] == [True, False, True]
    with pytest.raises(ArtifactError, match="round_01/collect has not finished"):
        round.stage("collect").digest()


def test_replicas_without_a_file_of_their_own_take_one_in_turn(tmp_path: Path) -> None:
    second = Round(config(), finished_run(tmp_path, "run"), 2)
    leave_knowledge(second.at(1), "accumulate", 2)
    previous = second.previous_knowledge()
    assert [previous[replica].replica for replica in range(3)] == [0, 1, 2]
    own = load_knowledge(second.at(1).stage("accumulate").path, 0).text
    assert [previous[replica].text for replica in (0, 2)] == [own, own]
    assert previous[1].text != own


def test_what_a_review_left_is_what_a_later_round_goes_on_from(tmp_path: Path) -> None:
    second = Round(config(), finished_run(tmp_path, "run"), 2)
    leave_knowledge(second.at(1), "accumulate", 1)
    before = second.previous_input()
    leave_knowledge(second.at(1), "review", 1)
    assert second.previous_knowledge()[0].text == "review of round 1, replica 0"
    assert second.previous_input() == {"previous_knowledge": second.at(1).stage("review").digest()} != before


def test_without_carry_over_a_round_goes_on_from_nothing(tmp_path: Path) -> None:
    second = Round(config(knowledge={"carry_over": False}), finished_run(tmp_path, "run"), 2)
    leave_knowledge(second.at(1), "accumulate", 1)
    assert second.previous_knowledge() == {}
    assert second.previous_input() == {}
