"""What may go and what must stay: weights that something starts from, stands on, or serves."""

import json
from pathlib import Path

import pytest

from oel_core.errors import ArtifactError, BusyError, ConfigError
from oel_core.housekeeping.cleaning import leftovers, remove, remove_run
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, adopt_config
from oel_core.runs.round_start import RoundStart, write_start
from tests.runs_on_disk import WEIGHTS, begin_stage, finished_run


def places(run: RunFolder, *kept: int) -> list[str]:
    return [one.path for one in leftovers(run, kept)]


def weights(run: RunFolder, index: int) -> Path:
    return run.stage_path(index, "distill") / "checkpoint" / "model.safetensors"


def test_weights_from_which_nothing_starts_any_more_may_go(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake")
    assert places(run) == ["round_01/distill/checkpoint", "round_02/distill/checkpoint"]
    assert {one.bytes for one in leftovers(run, ())} == {len(WEIGHTS)}


def test_weights_that_were_a_champions_or_are_the_newest_stay(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake")
    assert places(run, 1) == ["round_02/distill/checkpoint"]
    assert places(run, 1, 2) == []


def test_the_parent_of_an_unfinished_round_stays(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake")
    write_start(run, 4, RoundStart(parent=1, knowledge=None, trigger="monday"))
    assert places(run) == ["round_02/distill/checkpoint", "round_03/distill/checkpoint"]


def test_the_weights_under_an_adapter_that_stays_stay(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake")
    values = {"peft_type": "LORA", "base_model_name_or_path": str(run.stage_path(1, "distill") / "checkpoint")}
    (run.stage_path(3, "distill") / "checkpoint" / "adapter_config.json").write_text(json.dumps(values))
    assert places(run) == ["round_02/distill/checkpoint"]


def test_a_run_whose_weights_were_removed_goes_on_and_says_what_is_gone(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake")
    begin_stage(run, 4, "collect")
    found = leftovers(run, ())
    assert [one.kind for one in found] == ["partial", "checkpoint", "checkpoint"]
    remove(run, found)
    assert leftovers(run, ()) == []
    assert [weights(run, index).exists() for index in (1, 2, 3)] == [False, False, True]
    adopt_config(run, run.config())
    with pytest.raises(ArtifactError, match=r"weights of round 1 .* removed by `oel clean`"):
        Round(run.config(), run, 1).model()
    assert Round(run.config(), run, 3).model() == str(weights(run, 3).parent)


def test_a_file_that_was_lost_is_still_missed(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake")
    remove(run, leftovers(run, ()))
    weights(run, 3).unlink()
    with pytest.raises(ArtifactError, match="is missing: restore it"):
        adopt_config(run, run.config())


def test_a_run_that_is_worked_on_is_not_removed(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake")
    with run.leased("a test"), pytest.raises(BusyError):
        remove_run(run)
    assert weights(run, 3).exists()
    remove_run(run)
    assert list(tmp_path.iterdir()) == []


def test_the_runs_of_a_study_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.yaml").write_text("")
    with pytest.raises(ConfigError, match="belongs to a study"):
        leftovers(finished_run(tmp_path / "study" / "runs", "seed-0"), ())
