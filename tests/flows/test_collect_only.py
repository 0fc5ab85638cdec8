"""Whose file in the inbox is whose."""

from pathlib import Path

import pytest

from flows.collect_only import _left, _played, collect_only
from oel_core import envs
from oel_core.config.run import parse_config
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.runs.jsonl import read_jsonl
from oel_core.seeds import reference_seed
from oel_core.types import Split, Trajectory
from tests.fakes import CORRIDOR


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    for name in ("lake-r01-000004-last-monday", "lake-2-r01-000006-monday", "lake-r02-000008-tuesday"):
        (tmp_path / f"{name}.jsonl").write_text("")
    return tmp_path


def test_a_trigger_finds_its_own_file_only(inbox: Path) -> None:
    assert _left(inbox, "lake", "monday") is None
    assert _left(inbox, "lake", "last-monday") == inbox / "lake-r01-000004-last-monday.jsonl"
    assert _left(inbox, "lake-2", "monday") == inbox / "lake-2-r01-000006-monday.jsonl"


def test_seeds_go_on_where_the_last_call_of_the_round_ended(inbox: Path) -> None:
    assert [_played(inbox, "lake", number) for number in (1, 2, 3)] == [4, 8, 0]
    assert _played(inbox, "lake-2", 1) == 6


def test_the_papers_seeds_are_played_where_the_configuration_asks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(envs.REGISTRY, *CORRIDOR)
    policy = ScriptedPolicy(lambda messages, seed: "[right]", batch_size=2)
    monkeypatch.setattr("flows.collect_only.load_policy", lambda path, model: policy)
    monkeypatch.setattr("flows.collect_only.model_path", lambda *given: "base")
    monkeypatch.setattr("flows.collect_only.check", lambda config: None)
    config = parse_config({"environment": {"name": "corridor", "max_turns": 3, "seeds": "paper"}}, "test")
    path = collect_only.fn(config, "hall", tmp_path / "inbox", 3, "monday", tmp_path)
    seeds = [episode.seed for episode in read_jsonl(path, Trajectory)]
    assert seeds == [reference_seed(config.seed, Split.EXTRACT, 1, 0, index) for index in range(3)]
