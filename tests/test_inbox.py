"""The inbox: every episode once, nothing bad taken, nothing torn, and a round's share of it."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oel_core.config import OelConfig, parse_config
from oel_core.errors import ArtifactError
from oel_core.inbox import deal, new_experience
from oel_core.types import Split, Trajectory
from tests.builders import episode


def line(id: str, **changes: object) -> bytes:
    return episode(id).model_copy(update=changes).model_dump_json().encode() + b"\n"


def config(replicas: int = 2, per_replica: int = 4, steps: int = 3, per_step: int = 4) -> OelConfig:
    values = {
        "collect": {"replicas": replicas, "extraction_episodes": per_replica},
        "distill": {"steps": steps, "episodes_per_step": per_step},
    }
    return parse_config(values, "test")


def ids(episodes: list[Trajectory]) -> list[str]:
    return [one.id for one in episodes]


def test_what_was_read_is_not_read_again_and_what_is_added_is(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(line("a0") + line("a1"))
    first = new_experience(tmp_path, {}, "corridor")
    assert ids(first.episodes) == ["a0", "a1"]
    assert new_experience(tmp_path, first.read_to, "corridor").episodes == []
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(line("a2"))
    (tmp_path / "b.jsonl").write_bytes(line("b0"))
    assert ids(new_experience(tmp_path, first.read_to, "corridor").episodes) == ["a2", "b0"]


def test_a_line_that_is_still_being_written_waits(tmp_path: Path) -> None:
    whole, torn = line("a0"), line("a1")
    (tmp_path / "a.jsonl").write_bytes(whole + torn[:40])
    first = new_experience(tmp_path, {}, "corridor")
    assert ids(first.episodes) == ["a0"]
    assert first.left_out == []
    (tmp_path / "a.jsonl").write_bytes(whole + torn)
    assert ids(new_experience(tmp_path, first.read_to, "corridor").episodes) == ["a1"]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"nonsense\n", "the line"),
        (b"\xff\xfe\n", "the line"),
        (b'{"id": "x"}\n', "env"),
        (line("x", env="sokoban"), "it was played in 'sokoban'"),
        (line("x", split=Split.HELD_OUT), "held_out is for measuring"),
        (line("x", split=Split.VALIDATION), "validation is for measuring"),
        (line("x", knowledge_digest="abcd"), "was shown knowledge"),
        (line("x", turns=()), "no turns"),
    ],
)
def test_a_bad_line_is_left_out_and_named(tmp_path: Path, bad: bytes, why: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(line("a0") + bad + line("a1"))
    found = new_experience(tmp_path, {}, "corridor")
    assert ids(found.episodes) == ["a0", "a1"]
    assert len(found.left_out) == 1
    assert "a.jsonl, line 2: " in found.left_out[0]
    assert why in found.left_out[0]


def test_a_file_that_shrank_and_a_folder_that_is_none_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(line("a0"))
    with pytest.raises(ArtifactError, match="shorter than the 100000 bytes"):
        new_experience(tmp_path, {"a.jsonl": 100000}, "corridor")
    with pytest.raises(ArtifactError, match="is not a folder"):
        new_experience(tmp_path / "none", {}, "corridor")


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_however_it_grows_every_episode_is_seen_once(
    tmp_path_factory: pytest.TempPathFactory, batches: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("inbox")
    read: dict[str, int] = {}
    seen: list[str] = []
    for number, count in enumerate(batches):
        with (folder / f"{number % 2}.jsonl").open("ab") as file:
            file.write(b"".join(line(f"{number}-{index}") for index in range(count)))
        found = new_experience(folder, read, "corridor")
        seen += ids(found.episodes)
        read = found.read_to
    assert len(seen) == sum(batches)
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("count", [2, 3, 10, 40, 200])
def test_a_round_gets_what_it_asks_for_however_few_there_are(count: int) -> None:
    dealt = deal(config(), [episode(f"d{index}") for index in range(count)], 3)
    extract = [(one, source) for one, source in dealt if one.split is Split.EXTRACT]
    distill = [(one, source) for one, source in dealt if one.split is Split.DISTILL]
    assert not {source for _, source in extract} & {source for _, source in distill}
    assert [one.index for one, _ in distill] == list(range(12))
    assert len({one.id for one, _ in dealt}) == len(dealt)
    assert {one.round for one, _ in dealt} == {3}
    per_replica = Counter(one.replica for one, _ in extract)
    assert set(per_replica) == {0, 1}
    assert all(found == min(4, max(1, round(count / 2))) for found in per_replica.values())
    for replica in (0, 1):
        own = [source for one, source in extract if one.replica == replica]
        assert len(set(own)) == len(own)


def test_dealing_is_the_same_each_time_and_other_in_another_round() -> None:
    episodes = [episode(f"d{index}") for index in range(30)]
    first, again, other = (deal(config(), episodes, number) for number in (1, 1, 2))
    assert first == again
    assert [source for _, source in first] != [source for _, source in other]
    assert json.loads(first[0][0].model_dump_json())["id"] == "r01-extract-k00-e0000"
