"""`oel cases`: what the sets of a project's rounds hold."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from oel_core.config.run import parse_config
from oel_core.projects.triggers import begin
from oel_core.runs.folder import adopt_config, open_run
from oel_core.runs.jsonl import jsonl_bytes
from oel_core.runs.manifest import digest_file
from tests.cases.sessions import people, said, session

Oel = Callable[..., tuple[int, str, str]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project whose only round has set sessions apart; of every second one the right answer is known."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    given = [people(thumbs=False, correction="blue")]
    recorded = [session(f"s{n}", (said(n), "green"), given=given if n % 2 else []) for n in range(100)]
    (inbox / "a.jsonl").write_bytes(jsonl_bytes(recorded))
    values = {
        "environment": {"name": "recorded"},
        "evaluate": {"held_out": "cases", "cases": {"scorer": "exact"}},
        "experience": {"inbox": str(inbox)},
    }
    run, config = open_run(tmp_path, "shop"), parse_config(values, "test")
    begin(config, run, "t", 0)
    adopt_config(run, config)
    return tmp_path


def test_sets_are_counted_in_sessions(root: Path, oel: Oel) -> None:
    code, out, _ = oel("cases", "shop", "--root", root, "--json")
    found = json.loads(out)
    assert (code, found["round"], found["held_out"]) == (0, 1, 20)
    assert 0 < found["new"] == found["scorable"] < 20
    assert found["answers"] == found["verdicts"] == found["scorable"] + found["validation"]
    assert found["digest"] == digest_file(root / "shop" / "round_01" / "cases.jsonl")
    assert oel("cases", "shop", "--root", root)[1].count("│ 1 ") == 1


def test_a_project_without_cases_says_so(tmp_path: Path, oel: Oel) -> None:
    adopt_config(open_run(tmp_path, "lake"), parse_config({}, "test"))
    code, out, _ = oel("cases", "lake", "--root", tmp_path)
    assert (code, out) == (0, "No round has cases: they are set apart where evaluate.held_out is cases\n")
