"""The list of runs: states, and that hard links count once."""

import os
from pathlib import Path

import pytest

from oel_core.config.run import load_config
from oel_core.housekeeping.listing import entry_of, list_runs, size_of
from oel_core.runs.folder import CONFIG, adopt_config, open_run
from tests.runs_on_disk import begin_stage, finished_run


def test_every_state_of_a_run_has_its_word(tmp_path: Path) -> None:
    finished_run(tmp_path, "done", rounds=1)
    begin_stage(finished_run(tmp_path, "killed", rounds=1), 2, "collect")
    adopt_config(open_run(tmp_path, "fresh"), load_config("tiny"))
    (open_run(tmp_path, "broken").path / CONFIG).write_text("rounds: [")
    short = finished_run(tmp_path, "short", rounds=1)
    adopt_config(short, load_config("tiny", ["rounds=2"]))
    busy = finished_run(tmp_path, "busy", rounds=1)
    with busy.leased("a test"):
        found = {one.run: (one.status, one.rounds, one.of) for one in list_runs(tmp_path)}
    assert found == {
        "done": ("finished", 1, 1),
        "killed": ("stopped", 1, 1),
        "fresh": ("new", 0, 1),
        "broken": ("damaged", 0, None),
        "short": ("stopped", 1, 2),
        "busy": ("running", 1, 1),
    }


def test_a_project_has_no_number_of_rounds_to_reach(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake", rounds=1)
    (run.path / "triggers").mkdir()
    found = entry_of(run.path)
    assert (found.kind, found.status, found.of) == ("project", "finished", None)


def test_a_file_with_two_names_counts_once_and_locks_are_no_change(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "lake", rounds=1)
    before = entry_of(run.path)
    for path in run.path.rglob("*"):
        os.utime(path, (1000.0, 1000.0))
    weights = run.stage_path(1, "distill") / "checkpoint" / "model.safetensors"
    os.link(weights, run.path / "same.safetensors")
    os.utime(weights, (2000.0, 2000.0))
    (run.path / ".lock").write_text("")
    assert size_of(run.path) == before.bytes
    assert entry_of(run.path).changed == pytest.approx(2000.0)
