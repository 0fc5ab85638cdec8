"""Whose file in the inbox is whose."""

from pathlib import Path

import pytest

from flows.collect_only import _left, _played


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
