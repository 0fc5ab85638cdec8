"""Append-only JSONL: what survives a kill, and how damage is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from oel_core.errors import ArtifactError
from oel_core.runs.jsonl import JsonlWriter, jsonl_bytes, read_jsonl, recover_jsonl, require_json_lines
from oel_core.runs.manifest import Manifest, read_record
from oel_core.types import EvalReport, Message, Record, Trajectory
from tests.builders import episode, turn
from tests.fuzzing import examples
from tests.mutated import lines_like

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
        (lambda data: data[:-1], r"rows\.jsonl, line 3 is incomplete"),
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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_does_not_have_are_neither_read_nor_written(tmp_path: Path, value: float) -> None:
    good = episode("a", turns=[turn(0)])
    for bad, where in [
        (good.model_copy(update={"reward": value}), "Trajectory.reward"),
        (
            good.model_copy(update={"turns": (turn(0).model_copy(update={"wall_s": value}),)}),
            "Trajectory.turns.0.wall_s",
        ),
        (report().model_copy(update={"extra": {"by_kind": [{"share": value}]}}), "EvalReport.extra.by_kind.0.share"),
        (report().model_copy(update={"ci95": (0.0, value)}), "EvalReport.ci95.1"),
    ]:
        with pytest.raises(ArtifactError, match=rf"^{where} is -?(nan|inf): records hold finite numbers only"):
            jsonl_bytes([bad])
        with pytest.raises(ArtifactError, match=where), JsonlWriter(tmp_path / "none.jsonl") as writer:
            writer.append(bad)
    assert (tmp_path / "none.jsonl").read_bytes() == b""
    with pytest.raises(ValidationError, match="finite number"):
        report(pass_rate=value)
    with pytest.raises(ValidationError, match=r"it\.by_kind\.0 is .*, not a finite number"):
        report(extra={"by_kind": [value]})
    data = good.model_dump_json().replace('"reward":0.0,"feedback"', f'"reward":{json.dumps(value)},"feedback"')
    (tmp_path / "rows.jsonl").write_text(data + "\n")
    with pytest.raises(
        ArtifactError, match=r"rows\.jsonl, line 1 is not a whole Trajectory \(reward: .* finite number"
    ):
        list(read_jsonl(tmp_path / "rows.jsonl", Trajectory))


def test_half_a_surrogate_pair_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="Message cannot be written"):
        jsonl_bytes([Message(role="user", content="\ud800")])


def report(**changes: Any) -> EvalReport:
    numbers = dict.fromkeys(("pass_rate", "response_tokens", "turns", "trajectory_tokens"), 0.0)
    rates = {"truncation_rate": 0.0, "invalid_rate": 0.0, "ci95": (0.0, 1.0)}
    return EvalReport(**{"suite": "s", "policy": "p", "episodes": 1, "passed": 0, **numbers, **rates, **changes})


EXAMPLES = {
    Trajectory: [episode("a", turns=[turn(0), turn(1)]).model_dump_json().encode()],
    EvalReport: [report(extra={"a": [1.5]}).model_dump_json().encode()],
    Manifest: [
        b'{"key":{"stage":"s","sections":[],"config":{"a":1.5},"inputs":{}},"config_digest":"","counts":{"a":1.0},'
        b'"outputs":{"f":{"bytes":1,"digest":""}},"package_version":"0","finished_at":0.0}'
    ],
}


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
@settings(max_examples=examples(700), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_are_records_or_one_clear_error(tmp_path: Path, kind: type[Record], data: st.DataObject) -> None:
    lines = data.draw(st.lists(lines_like(EXAMPLES[kind]), max_size=3))  # type: ignore[index]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(lines) + data.draw(st.sampled_from([b"", b"\n"])))
    readers: list[Callable[[], object]] = [
        lambda: jsonl_bytes(read_jsonl(path, kind)),
        lambda: jsonl_bytes(recover_jsonl(path, kind)),
        lambda: require_json_lines(path),
    ]
    for read in readers:
        said = said_by(read)
        assert said is None or said.startswith(f"{path}, line ")
    path.write_bytes(b"".join(lines))
    said = said_by(lambda: read_record(path, kind))
    assert said is None or said.startswith(str(path))


def said_by(read: Callable[[], object]) -> str | None:
    """The message of the only error that a reader may raise; None when it reads."""
    try:
        read()
    except ArtifactError as error:
        return str(error)
    return None
