"""Triggers and round starts: starting, resuming, and too little experience."""

import time
from pathlib import Path

import pytest

from oel_core.config.run import EnvironmentConfig, OelConfig, parse_config
from oel_core.errors import ArtifactError, ConfigError
from oel_core.projects.round_inbox import inbox_read_to
from oel_core.projects.triggers import (
    Outcome,
    Trigger,
    abandon,
    begin,
    end,
    file_stem,
    finished_trigger,
    join,
    note,
    open_round,
    outcome_of,
    read_trigger,
    trigger_path,
)
from oel_core.runs.folder import MANIFEST, RunFolder, open_run, round_name
from oel_core.runs.manifest import Manifest, StageKey
from oel_core.runs.round_start import (
    knowledge_before,
    last_begun,
    parent_of,
    read_start,
    require_ungated,
)
from oel_core.types import Feedback
from tests.builders import episode


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return open_run(tmp_path, "project")


def finish(run: RunFolder, round_index: int, *stages: str) -> None:
    """Folders that look finished."""
    for stage in stages:
        key = StageKey(stage=f"{round_name(round_index)}/{stage}", sections=(), config={}, inputs={})
        manifest = Manifest(key=key, config_digest="", counts={}, outputs={}, package_version="0", finished_at=0.0)
        folder = run.stage_path(round_index, stage)
        folder.mkdir(parents=True)
        (folder / MANIFEST).write_text(manifest.model_dump_json())


def over(run: RunFolder, round_index: int, id: str, outcome: Outcome) -> Trigger:
    """Ends a round."""
    return end(run, Trigger(id=id, outcome=outcome, round=round_index, champion=0, at=1.0), round_index)


def with_inbox(tmp_path: Path, count: int, need: int = 4) -> OelConfig:
    folder = tmp_path / "inbox"
    folder.mkdir(exist_ok=True)
    with (folder / "a.jsonl").open("ab") as file:
        for number in range(count):
            file.write(episode(f"d{file.tell()}-{number}").model_dump_json().encode() + b"\n")
    return parse_config(
        {"environment": {"name": "corridor"}, "experience": {"inbox": str(folder), "min_episodes": need}}, "test"
    )


def test_a_round_starts_from_the_champion_not_from_the_round_before(run: RunFolder) -> None:
    assert begin(OelConfig(), run, "one", champion=0).round == 1
    finish(run, 1, "accumulate", "gate")
    begun = begin(OelConfig(), run, "two", champion=0)
    assert (begun.round, begun.outcome) == (2, "begun")
    assert parent_of(run, 2) == 0
    assert knowledge_before(run, 2) is None
    finish(run, 2, "accumulate", "gate")
    begin(OelConfig(), run, "three", champion=1)
    assert (parent_of(run, 3), knowledge_before(run, 3)) == (1, 1)


def test_knowledge_of_a_refused_round_may_go_on(run: RunFolder) -> None:
    keep = parse_config({"gate": {"refused_knowledge": "keep"}}, "test")
    for number, known in [(1, None), (2, 1), (3, 1)]:
        begin(keep, run, f"t{number}", champion=0)
        assert knowledge_before(run, number) == known
        finish(run, number, "accumulate", *(["distill"] if number != 2 else []))
        over(run, number, f"t{number}", "failed" if number == 2 else "refused")


def test_without_a_decision_rounds_follow_each_other(run: RunFolder) -> None:
    assert [parent_of(run, number) for number in (1, 2)] == [0, 1]
    assert [knowledge_before(run, number) for number in (1, 2)] == [None, 1]
    assert last_begun(run) == 0


def test_an_open_round_is_found_until_something_came_of_it(run: RunFolder) -> None:
    assert open_round(run) is None
    begin(OelConfig(), run, "one", champion=0)
    assert open_round(run) == 1
    finish(run, 1, "evaluate/held_out")
    assert open_round(run) == 1
    finish(run, 1, "gate")  # a kill before anybody acted upon the verdict must not lose it
    assert open_round(run) == 1
    over(run, 1, "one", "promoted")
    assert open_round(run) is None
    begin(OelConfig(), run, "two", champion=0)
    over(run, 2, "two", "failed")
    assert open_round(run) is None
    assert begin(OelConfig(), run, "three", champion=0).round == 3


def test_a_trigger_whose_round_another_one_ended_begins_no_further_round(run: RunFolder) -> None:
    begin(OelConfig(), run, "first", champion=0)
    assert finished_trigger(run, "first") is None  # killed here
    join(run, "second", 1)
    over(run, 1, "second", "promoted")
    found = finished_trigger(run, "first")
    assert found is not None
    assert (found.id, found.outcome, found.round) == ("first", "promoted", 1)
    assert read_trigger(run, "first") == found
    assert finished_trigger(run, "third") is None


def test_a_kill_before_the_trigger_is_noted_keeps_its_rounds_outcome(run: RunFolder) -> None:
    begun = begin(OelConfig(), run, "one", champion=0)
    ended = over(run, 1, "one", "refused")
    note(run, begun)  # as if the kill had come between the two writes
    assert finished_trigger(run, "one") == ended == outcome_of(run, 1)


def test_rounds_of_a_plain_run_come_first_and_must_be_finished(run: RunFolder) -> None:
    finish(run, 1, "collect")
    with pytest.raises(ArtifactError, match="begun by `oel run` and is not finished"):
        open_round(run)
    finish(run, 1, "evaluate/held_out")
    assert open_round(run) is None
    require_ungated(run, 5)
    assert begin(OelConfig(), run, "one", champion=0).round == 2
    require_ungated(run, 2)
    with pytest.raises(ConfigError, match="oel trigger next-round"):
        require_ungated(run, 3)


def test_too_little_experience_waits_and_the_rest_is_frozen_and_read_once(run: RunFolder, tmp_path: Path) -> None:
    early = begin(with_inbox(tmp_path, 3), run, "early", champion=0)
    assert (early.outcome, early.round, early.over) == ("waiting", None, True)
    assert "3 of 4 new episodes" in early.detail
    assert read_trigger(run, "early") == early
    assert last_begun(run) == 0
    assert begin(with_inbox(tmp_path, 2), run, "later", champion=0).round == 1
    start = read_start(run, 1)
    assert start is not None
    assert start.inbox_episodes == 5
    assert len((run.path / round_name(1) / "inbox.jsonl").read_bytes().splitlines()) == 5
    assert inbox_read_to(run) == start.inbox_read_to == {"a.jsonl": (tmp_path / "inbox" / "a.jsonl").stat().st_size}
    finish(run, 1, "gate")
    again = begin(with_inbox(tmp_path, 1), run, "again", champion=0)
    assert "1 of 4 new episodes" in again.detail


def test_exactly_as_much_experience_as_is_needed_begins_a_round(run: RunFolder, tmp_path: Path) -> None:
    assert begin(with_inbox(tmp_path, 4), run, "one", champion=0).outcome == "begun"


def test_without_any_feedback_a_round_that_learns_from_rated_answers_waits(run: RunFolder, tmp_path: Path) -> None:
    config = with_inbox(tmp_path, 4)
    rated = config.experience.model_copy(update={"distill_turns": "rated", "distill_sessions": "all"})
    config = config.model_copy(update={"experience": rated})
    waits = begin(config, run, "one", champion=0)
    assert (waits.outcome, last_begun(run)) == ("waiting", 0)
    assert "none of 4 new episodes to train on has feedback on an answer" in waits.detail
    turn = episode("r").turns[0].model_copy(update={"given": (Feedback(source="human", thumbs=True),)})
    with (tmp_path / "inbox" / "a.jsonl").open("ab") as file:
        file.write(episode("r", turns=[turn]).model_dump_json().encode() + b"\n")
    assert begin(config, run, "two", champion=0).outcome == "begun"


def test_an_abandoned_round_failed_whoever_began_it(run: RunFolder) -> None:
    finish(run, 1, "collect")
    by_hand = abandon(run, 1, "enough")
    assert (by_hand.id, by_hand.outcome, by_hand.champion) == ("abandoned-round-1", "failed", None)
    begin(OelConfig(), run, "two", champion=0)
    with pytest.raises(ConfigError, match=r"round 1 of .* is over already: failed"):
        abandon(run, 1, "again")
    with pytest.raises(ConfigError, match=r"round 3 of .* is not open: the newest is round 2"):
        abandon(run, 3, "too early")
    ended = abandon(run, 2, "enough")
    assert (ended.id, ended.outcome, ended.champion, ended.detail) == ("two", "failed", 0, "enough")
    assert read_trigger(run, "two") == outcome_of(run, 2) == ended


def test_a_finished_round_of_a_plain_run_cannot_be_abandoned(run: RunFolder) -> None:
    finish(run, 1, "collect", "evaluate/held_out")
    with pytest.raises(ConfigError, match=r"round 1 of .* is not open"):
        abandon(run, 1, "enough")


def test_a_kill_before_the_round_exists_loses_no_experience(run: RunFolder, tmp_path: Path) -> None:
    config = with_inbox(tmp_path, 6)
    assert begin(config, run, "one", champion=0).round == 1
    (run.path / round_name(1) / "start.json").unlink()
    trigger_path(run, "one").unlink()
    assert last_begun(run) == 0
    begun = begin(config, run, "one", champion=0)
    start = read_start(run, 1)
    assert begun.round == 1
    assert start is not None
    assert start.inbox_episodes == 6


def test_a_project_goes_on_after_63_rounds_unless_its_seeds_are_the_papers(run: RunFolder) -> None:
    finish(run, 63, "gate")
    papers = OelConfig(environment=EnvironmentConfig(seeds="paper"))
    with pytest.raises(ConfigError, match=r"round 64.*63 rounds; set environment.seeds to disjoint"):
        begin(papers, run, "one", champion=0)
    assert read_start(run, 64) is None
    assert begin(OelConfig(), run, "one", champion=63).round == 64


@pytest.mark.parametrize("id", ["../../etc", "a/b", "", "x" * 200, "ä", ".hidden"])
def test_any_id_has_a_file_of_its_own_in_the_folder(run: RunFolder, id: str) -> None:
    path = trigger_path(run, id)
    assert path.parent == run.path / "triggers"
    assert file_stem(id) != id
    begun = begin(OelConfig(), run, id, champion=0)
    assert read_trigger(run, id) == begun
    done = note(run, begun.model_copy(update={"outcome": "refused"}))
    assert read_trigger(run, id) == done
    assert done.over


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_a_clock_that_jumps_in_mid_round_changes_nothing(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    begun = begin(OelConfig(), run, "one", champion=0)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    assert open_round(run) == begun.round == 1
    assert join(run, "two", 1).round == 1
    done = note(run, begun.model_copy(update={"outcome": "promoted", "at": time.time()}))
    assert read_trigger(run, "one") == done
    end(run, done, 1)
    assert open_round(run) is None
    assert begin(OelConfig(), run, "three", champion=1).round == 2
    assert last_begun(run) == 2
