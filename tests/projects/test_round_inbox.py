"""An inbox over many triggers: unusable lines are reported once, kept, and never block a project."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from oel_core.config.run import OelConfig, parse_config
from oel_core.errors import ArtifactError
from oel_core.projects.inbox import INBOX, SOURCES, Received, assign_episodes
from oel_core.projects.quarantine import LeftOut, left_out_lines
from oel_core.projects.round_inbox import set_aside
from oel_core.projects.triggers import Outcome, Trigger, begin, end, join
from oel_core.rounds.round import Round
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder, open_run, round_name
from oel_core.runs.jsonl import jsonl_bytes, read_jsonl
from oel_core.runs.round_start import read_start
from tests.builders import episode


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return open_run(tmp_path, "project")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


def config(inbox: Path, need: int = 2) -> OelConfig:
    sections = {
        "environment": {"name": "corridor"},
        "experience": {"inbox": str(inbox), "min_episodes": need},
        "collect": {"replicas": 1, "extraction_episodes": 2},
        "distill": {"steps": 1, "episodes_per_step": 2},
    }
    return parse_config(sections, "test")


def add(inbox: Path, *lines: bytes, file: str = "a.jsonl") -> None:
    with (inbox / file).open("ab") as opened:
        opened.write(b"".join(line + b"\n" for line in lines))


def good(id: str) -> bytes:
    return episode(id).model_dump_json().encode()


def nan(id: str) -> bytes:
    return good(id).replace(b'"reward":0.0,"feedback"', b'"reward":NaN,"feedback"')


def quarantined(inbox: Path) -> Mapping[str, list[LeftOut]]:
    return {path.stem: list(read_jsonl(path, LeftOut)) for path in sorted((inbox / "refused").glob("*.jsonl"))}


def over(run: RunFolder, round_index: int, outcome: Outcome = "failed") -> None:
    end(run, Trigger(id=f"t{round_index}", outcome=outcome, round=round_index, champion=0, at=1.0), round_index)


def test_equal_reasons_are_said_once_with_their_number() -> None:
    def bad(line: int, field: str, reason: str) -> LeftOut:
        return LeftOut(file="a.jsonl", line=line, field=field, reason=reason)

    few = [bad(7, "env", "other"), *(bad(line, "reward", "no number") for line in range(1, 6))]
    assert left_out_lines(few) == [
        "5 lines left out, reward: no number (a.jsonl line 1, a.jsonl line 2, a.jsonl line 3, ...)",
        "1 line left out, env: other (a.jsonl line 7)",
    ]
    many = [bad(line, "env", f"env {line // 2}") for line in range(2, 52)]
    assert len(left_out_lines(many)) == 21
    assert left_out_lines(many)[-1] == "10 more lines left out for 5 other reasons"
    assert left_out_lines([]) == []


def test_too_few_and_all_refused_are_different_and_the_latter_is_said_once(run: RunFolder, inbox: Path) -> None:
    empty = begin(config(inbox), run, "empty", champion=0)
    assert (empty.outcome, empty.detail) == ("waiting", f"0 of 2 new episodes in {inbox}")
    add(inbox, *(nan(f"n{number}") for number in range(5)))
    refused = begin(config(inbox), run, "refused", champion=0)
    assert (refused.outcome, refused.round, refused.over) == ("unusable", None, True)
    first, second = refused.detail.split("\n")
    assert first == f"0 of 2 new episodes in {inbox}"
    assert second.startswith("5 lines left out, reward: Input should be a finite number (a.jsonl line 1, ")
    again = begin(config(inbox), run, "again", champion=0)
    assert (again.outcome, again.detail) == ("waiting", f"0 of 2 new episodes in {inbox}")
    add(inbox, nan("n"), good("a"))
    few = begin(config(inbox), run, "few", champion=0)
    assert few.outcome == "waiting"
    assert few.detail.split("\n")[0] == f"1 of 2 new episodes in {inbox}"
    assert "1 line left out" in few.detail
    add(inbox, good("b"))
    assert begin(config(inbox), run, "enough", champion=0).round == 1
    start = read_start(run, 1)
    assert start is not None
    assert (start.inbox_episodes, len(start.inbox_left_out)) == (2, 1)


def test_what_is_left_out_is_kept_beside_the_inbox_once(run: RunFolder, inbox: Path) -> None:
    add(inbox, nan("n0"), b"\xff")
    before = (inbox / "a.jsonl").read_bytes()
    for trigger in ("one", "two"):
        begin(config(inbox), run, trigger, champion=0)
    found = quarantined(inbox)
    assert set(found) == {"project-a-from-byte-0"}
    assert [(row.line, row.field) for row in found["project-a-from-byte-0"]] == [(1, "reward"), (2, "")]
    assert json.loads(found["project-a-from-byte-0"][0].text)["id"] == "n0"
    assert found["project-a-from-byte-0"][1].text == "\\xff"
    add(inbox, nan("n1"), good("a"), good("b"))
    assert begin(config(inbox), run, "three", champion=0).round == 1
    found = quarantined(inbox)
    assert [len(rows) for rows in found.values()] == [2, 1]
    assert set(found) == {"project-a-from-byte-0", f"project-a-from-byte-{len(before)}"}
    assert (inbox / "a.jsonl").read_bytes().startswith(before)


def test_a_quarantine_that_cannot_be_written_is_said(run: RunFolder, inbox: Path) -> None:
    add(inbox, nan("n0"))
    (inbox / "refused").write_bytes(b"in the way")
    with pytest.raises(ArtifactError, match=r"refused.*cannot be written"):
        begin(config(inbox), run, "one", champion=0)


def collected(configuration: OelConfig, run: RunFolder) -> dict[int, str]:
    """Deals round 1 as its first stage does; returns line of the inbox → an id that its episode has in the round."""
    received = list(read_jsonl(run.path / round_name(1) / INBOX, Received))
    sources = [source for _, source in assign_episodes(configuration, received, 1)]
    write_atomic(run.stage_path(1, "collect") / SOURCES, jsonl_bytes(sources))
    return {source.line: source.id for source in sources}


def test_a_round_that_failed_because_of_an_episode_sets_it_aside_and_gives_the_others_back(
    run: RunFolder, inbox: Path
) -> None:
    add(inbox, *(good(f"e{number}") for number in range(4)))
    configuration = config(inbox)
    begin(configuration, run, "one", champion=0)
    ids = collected(configuration, run)
    said = set_aside(Round(configuration, run, 1), f"the loss of {ids[2]}/turn0 is not a number")
    assert said == ["1 line left out, round 1 failed because of it (a.jsonl line 2)"]
    assert [json.loads(row.text)["id"] for row in quarantined(inbox)["project-round_01"]] == ["e1"]
    over(run, 1)
    add(inbox, good("e4"))
    assert begin(configuration, run, "two", champion=0).round == 2
    used = [one.line for one in read_jsonl(run.path / round_name(2) / INBOX, Received)]
    assert used == [1, 3, 4, 5]
    over(run, 2, "refused")
    assert begin(configuration, run, "three", champion=0).outcome == "waiting", (
        "what a round has used is not given back"
    )


def test_a_round_that_names_no_episode_keeps_what_it_used(run: RunFolder, inbox: Path) -> None:
    add(inbox, *(good(f"e{number}") for number in range(4)))
    configuration = config(inbox)
    begin(configuration, run, "one", champion=0)
    assert set_aside(Round(configuration, run, 1), "before anything was collected: r01-distill-k00-e0000") == []
    collected(configuration, run)
    assert set_aside(Round(configuration, run, 1), "list index out of range") == []
    over(run, 1)
    assert quarantined(inbox) == {}
    assert begin(configuration, run, "two", champion=0).outcome == "waiting"
    assert join(run, "three", 1).outcome == "begun"
