"""Append-only JSONL: what survives a kill, and how damage is named."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oel_core.errors import ArtifactError
from oel_core.jsonl import JsonlWriter, read_jsonl, recover_jsonl, require_json_lines
from oel_core.types import Message

ROWS = [Message(role="user", content=text) for text in ("one", "two\nlines \u2028 here", "drei ä €")]


def written(folder: Path) -> Path:
    path = folder / "rows.jsonl"
    with JsonlWriter(path) as writer:
        for row in ROWS:
            writer.append(row)
    return path


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    path = written(tmp_path)
    with JsonlWriter(path) as writer:
        writer.append(ROWS[0])
    assert list(read_jsonl(path, Message)) == [*ROWS, ROWS[0]]


@settings(max_examples=20, deadline=None)
@given(cut=st.integers(min_value=0))
def test_a_kill_at_any_byte_loses_at_most_the_torn_line(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = written(tmp_path_factory.mktemp("torn"))
    data = path.read_bytes()
    kept = data[: cut % (len(data) + 1)]
    path.write_bytes(kept)
    found = recover_jsonl(path, Message)
    assert found == ROWS[: kept.count(b"\n")]
    with JsonlWriter(path) as writer:
        for row in ROWS[len(found) :]:
            writer.append(row)
    assert path.read_bytes() == data


def test_a_missing_file_recovers_to_nothing_but_cannot_be_read(tmp_path: Path) -> None:
    assert recover_jsonl(tmp_path / "none.jsonl", Message) == []
    with pytest.raises(ArtifactError, match=r"none\.jsonl cannot be read"):
        list(read_jsonl(tmp_path / "none.jsonl", Message))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], r"rows\.jsonl, line 3 is torn"),
        (lambda data: data.replace(b'"two', b"two"), r"rows\.jsonl, line 2 is not"),
        (lambda data: data.replace(b'"user"', b'"nobody"', 1), r"rows\.jsonl, line 1 is not a whole Message \(role"),
        (lambda data: data + b"\n", r"rows\.jsonl, line 4 is not"),
    ],
)
def test_damage_in_a_finished_file_is_named_by_line(tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    path = written(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtifactError, match=message):
        list(read_jsonl(path, Message))


def test_a_corrupt_line_before_the_last_is_never_repaired(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"one"', b'"one')[:-3])
    with pytest.raises(ArtifactError, match="line 1"):
        recover_jsonl(path, Message)


def test_lines_are_checked_as_json_whatever_they_hold(tmp_path: Path) -> None:
    path = written(tmp_path)
    require_json_lines(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ArtifactError, match="line 3 is not JSON"):
        require_json_lines(path)
