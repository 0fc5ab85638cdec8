"""The inbox: every episode is used once, invalid and incomplete lines are left out, and shares are assigned."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oel_core.config.run import OelConfig, parse_config
from oel_core.errors import ArtifactError, DistillationError
from oel_core.projects.inbox import Received, assign_episodes, new_experience, told
from oel_core.rounds.prompts import partial_rollouts, prompts_of
from oel_core.runs.jsonl import LineError, jsonl_bytes
from oel_core.types import Feedback, Message, Split, Trajectory
from tests.builders import episode, turn
from tests.mutated import lines_like


def line(id: str, **changes: Any) -> bytes:
    return episode(id).model_copy(update=changes).model_dump_json().encode() + b"\n"


MUTATED = lines_like([line("a", env="corridor"), line("b", reward=1.0, turns=(turn(0), turn(1)))])


def config(replicas: int = 2, per_replica: int = 4, steps: int = 3, per_step: int = 4) -> OelConfig:
    values = {
        "collect": {"replicas": replicas, "extraction_episodes": per_replica},
        "distill": {"steps": steps, "episodes_per_step": per_step},
    }
    return parse_config(values, "test")


def ids(received: list[Received]) -> list[str]:
    return [one.episode.id for one in received]


def received(count: int) -> list[Received]:
    return [Received(file="a.jsonl", line=index + 1, episode=episode(f"d{index}")) for index in range(count)]


def test_what_was_read_is_not_read_again_and_what_is_added_is(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(line("a0") + line("a1"))
    first = new_experience(tmp_path, {}, "corridor")
    assert ids(first.received) == ["a0", "a1"]
    assert new_experience(tmp_path, first.read_to, "corridor").received == []
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(line("a2"))
    (tmp_path / "b.jsonl").write_bytes(line("b0"))
    assert ids(new_experience(tmp_path, first.read_to, "corridor").received) == ["a2", "b0"]


def test_a_line_that_is_still_being_written_waits(tmp_path: Path) -> None:
    whole, torn = line("a0"), line("a1")
    (tmp_path / "a.jsonl").write_bytes(whole + torn[:40])
    first = new_experience(tmp_path, {}, "corridor")
    assert ids(first.received) == ["a0"]
    assert first.left_out == []
    (tmp_path / "a.jsonl").write_bytes(whole + torn)
    assert ids(new_experience(tmp_path, first.read_to, "corridor").received) == ["a1"]


def with_turn(**changes: Any) -> dict[str, Any]:
    """Fields of an episode whose second turn is changed."""
    return {"turns": (turn(0), turn(1).model_copy(update=changes))}


def said(*roles: str) -> tuple[Message, ...]:
    return tuple(Message(role=role, content="a") for role in roles)  # type: ignore[arg-type]


def raw(**changes: Any) -> bytes:
    """A line with values that no record would take."""
    return json.dumps(json.loads(line("x")) | changes).encode() + b"\n"


@pytest.mark.parametrize(
    ("bad", "field", "why"),
    [
        (b"nonsense\n", "", "Invalid JSON: expected"),
        (b"\xff\xfe\n", "", "Invalid JSON: expected"),
        (b'{"id": "\\ud800"}\n', "", "Invalid JSON: unexpected end of hex escape"),
        (b"[" * 10**5 + b"\n", "", "Invalid JSON: recursion limit"),
        (b"[]\n", "", "should be an object"),
        (b'{"id": "x"}\n', "env", "required"),
        (raw(reward=float("nan")), "reward", "finite number"),
        (raw(reward=float("-inf")), "reward", "finite number"),
        (raw(reward=None), "reward", "valid number"),
        (raw(reward="1.0"), "reward", "valid number"),
        (raw(seed="3"), "seed", "valid integer"),
        (raw(terminated="yes"), "terminated", "valid boolean"),
        (raw(truncated=True), "", "terminated and truncated are both true"),
        (raw(split="training"), "split", "'extract', 'distill', 'validation' or 'held_out'"),
        (line("x", env="sokoban"), "env", "it was played in 'sokoban'"),
        (line("x", split=Split.HELD_OUT), "split", "held_out is for measuring"),
        (line("x", split=Split.VALIDATION), "split", "validation is for measuring"),
        (line("x", knowledge_digest="abcd"), "knowledge_digest", "was shown knowledge"),
        (line("x", turns=()), "turns", "no turns"),
        (line("x", **with_turn(messages=())), "turns.1.messages", "at least 1 item"),
        (
            line("x", **with_turn(messages=said("assistant", "user"))),
            "turns.1.messages",
            "first message is the assistant",
        ),
        (
            line("x", **with_turn(messages=said("system", "user", "assistant"))),
            "turns.1.messages",
            "last message is the",
        ),
        (line("x", **with_turn(messages=said("system"))), "turns.1.messages", "last message is the system's"),
        (line("x", **with_turn(messages=said("user", "system", "user"))), "turns.1.messages", "not the first"),
        (line("x", **with_turn(response_ids=(-1,))), "turns.1.response_ids.0", "greater than or equal to 0"),
    ],
)
def test_a_bad_line_is_left_out_and_named(tmp_path: Path, bad: bytes, field: str, why: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(line("a0") + bad + line("a1"))
    found = new_experience(tmp_path, {}, "corridor")
    assert ids(found.received) == ["a0", "a1"]
    assert [one.line for one in found.received] == [1, 3]
    assert [(one.file, one.line, one.field) for one in found.left_out] == [("a.jsonl", 2, field)]
    assert why in found.left_out[0].reason
    assert found.left_out[0].text.encode("latin-1", "backslashreplace") == bad.rstrip(b"\n").replace(
        b"\xff\xfe", b"\\xff\\xfe"
    )


def test_prompts_that_begin_with_the_user_and_conditions_of_the_caller(tmp_path: Path) -> None:
    users = line("u", turns=(turn(0).model_copy(update={"messages": said("user", "assistant", "user")}),))
    (tmp_path / "a.jsonl").write_bytes(users + line("a1"))

    def never(episode: Trajectory) -> None:
        if episode.id == "a1":
            raise LineError("turns", "too long")

    found = new_experience(tmp_path, {}, "corridor", never)
    assert ids(found.received) == ["u"]
    assert [(one.line, one.problem) for one in found.left_out] == [(2, "turns: too long")]


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(MUTATED, min_size=1, max_size=3))
def test_whatever_bytes_are_in_an_inbox_every_line_is_taken_or_left_out(tmp_path: Path, lines: list[bytes]) -> None:
    data = b"".join(each + b"\n" for each in lines)
    (tmp_path / "a.jsonl").write_bytes(data)
    found = new_experience(tmp_path, {}, "corridor")
    assert len(found.received) + len(found.left_out) == data.count(b"\n")  # a removed one needs its exact form
    assert found.read_to == {"a.jsonl": len(data)}
    jsonl_bytes([*found.received, *found.left_out])


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
        seen += ids(found.received)
        read = found.read_to
    assert len(seen) == sum(batches)
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("count", [2, 3, 10, 40, 200])
def test_a_round_gets_what_it_asks_for_however_few_there_are(count: int) -> None:
    dealt = assign_episodes(config(), received(count), 3)
    extract = [(one, source) for one, source in dealt if one.split is Split.EXTRACT]
    distill = [(one, source) for one, source in dealt if one.split is Split.DISTILL]
    assert not {source.line for _, source in extract} & {source.line for _, source in distill}
    assert all(source.id == one.id and source.source == f"d{source.line - 1}" for one, source in dealt)
    assert [one.index for one, _ in distill] == list(range(12))
    assert len({one.id for one, _ in dealt}) == len(dealt)
    assert {one.round for one, _ in dealt} == {3}
    per_replica = Counter(one.replica for one, _ in extract)
    assert set(per_replica) == {0, 1}
    assert all(found == min(4, max(1, round(count / 2))) for found in per_replica.values())
    for replica in (0, 1):
        own = [source.line for one, source in extract if one.replica == replica]
        assert len(set(own)) == len(own)


@pytest.mark.parametrize(("share", "read"), [(0.001, 1), (0.25, 5), (0.999, 19)])
def test_the_share_that_is_read_leaves_at_least_one_on_both_sides(share: float, read: int) -> None:
    settings = parse_config(
        {
            "collect": {"replicas": 1, "extraction_episodes": 50},
            "distill": {"steps": 1, "episodes_per_step": 50},
            "experience": {"extract_share": share},
        },
        "test",
    )
    dealt = assign_episodes(settings, received(20), 1)
    lines = {split: {source.line for one, source in dealt if one.split is split} for split in Split}
    assert (len(lines[Split.EXTRACT]), len(lines[Split.DISTILL])) == (read, 20 - read)


def test_prompts_of_all_sessions_include_those_that_are_read() -> None:
    settings = parse_config(
        {
            "collect": {"replicas": 1, "extraction_episodes": 20},
            "distill": {"steps": 2, "episodes_per_step": 20},
            "experience": {"distill_sessions": "all", "extract_share": 0.9},
        },
        "test",
    )
    dealt = assign_episodes(settings, received(20), 1)
    lines = {split: {source.line for one, source in dealt if one.split is split} for split in Split}
    assert len(lines[Split.EXTRACT]) == 18
    assert lines[Split.DISTILL] == set(range(1, 21))


SAID = Feedback(source="human", correction="right")


def rated(*given: Feedback) -> Received:
    """An episode of two turns, with feedback on the second."""
    turns = with_turn(given=given)["turns"]
    return Received(file="a.jsonl", line=1, episode=episode("rated").model_copy(update={"turns": turns}))


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        ((SAID,), [1]),
        ((SAID.model_copy(update={"whole": True}),), [0, 1]),
        ((SAID.model_copy(update={"superseded": True}),), []),
        ((), []),
    ],
)
def test_prompts_of_rated_answers_are_those_with_feedback(given: tuple[Feedback, ...], numbers: list[int]) -> None:
    session = rated(*given).episode
    assert [prompt.turn for prompt in prompts_of(session, "rated")] == numbers
    assert [prompt.turn for prompt in prompts_of(session)] == [0, 1]


def test_sessions_without_a_rated_answer_are_not_distilled() -> None:
    values = {
        "distill": {"steps": 1, "episodes_per_step": 8},
        "experience": {"distill_turns": "rated", "distill_sessions": "all"},
    }
    settings = parse_config(values, "test")
    pool = [*received(6), *(rated(SAID).model_copy(update={"line": 7 + number}) for number in range(6))]
    dealt = assign_episodes(settings, pool, 1)
    distilled = [(one, source) for one, source in dealt if one.split is Split.DISTILL]
    assert len(distilled) == 8
    assert {source.line for _, source in distilled} <= set(range(7, 13))
    assert [[prompt.turn for prompt in step] for step in partial_rollouts(settings, [one for one, _ in distilled])] == [
        [1] * 8
    ]
    with pytest.raises(ArtifactError, match="none of the 6 episodes for distillation has a turn"):
        assign_episodes(settings, received(6), 1)
    with pytest.raises(DistillationError, match="no collected answer has feedback"):
        partial_rollouts(settings, [one.episode for one in received(1)])


def test_episodes_that_people_said_something_about_are_read_first() -> None:
    thumbs = Feedback(source="human", thumbs=False)
    assert [told(rated(*given).episode) for given in ((), (thumbs,), (thumbs, SAID))] == [0, 1, 2]
    assert told(rated(SAID.model_copy(update={"superseded": True})).episode) == 0
    pool = [*received(90), *(rated(SAID).model_copy(update={"line": 91 + number}) for number in range(10))]

    def read(weight: float, round_index: int) -> int:
        values = {
            "collect": {"replicas": 2, "extraction_episodes": 5},
            "distill": {"steps": 1, "episodes_per_step": 4},
            "experience": {"rated_weight": weight},
        }
        dealt = assign_episodes(parse_config(values, "test"), pool, round_index)
        lines = {source.line for one, source in dealt if one.split is Split.EXTRACT}
        assert len(lines) == 10
        return sum(line > 90 for line in lines)

    found = {weight: sum(read(weight, number) for number in range(50)) / 50 for weight in (1.0, 3.0, 1000.0, 1e150)}
    assert 0.5 < found[1.0] < 1.5, "one in ten, as in the inbox"
    assert 4.0 < found[3.0] < 8.0, "nine times as likely at each draw"
    assert found[1000.0] == found[1e150] == 10


def test_replicas_and_places_get_corrected_episodes_alike() -> None:
    pool = [*received(150), *(rated(SAID).model_copy(update={"line": 151 + number}) for number in range(30))]
    values = {
        "collect": {"replicas": 4, "extraction_episodes": 16},
        "distill": {"steps": 1, "episodes_per_step": 4},
        "experience": {"rated_weight": 10},
    }
    hands: Counter[int] = Counter()
    places: Counter[bool] = Counter()
    for number in range(40):
        for one, source in assign_episodes(parse_config(values, "test"), pool, number):
            if one.split is Split.EXTRACT and source.line > 150:
                hands[one.replica] += 1
                places[one.index < 8] += 1
    assert sum(hands.values()) > 35 * 25
    assert max(hands.values()) < 1.25 * min(hands.values())
    assert max(places.values()) < 1.25 * min(places.values())


def test_dealing_is_the_same_each_time_and_other_in_another_round() -> None:
    first, again, other = (assign_episodes(config(), received(30), number) for number in (1, 1, 2))
    assert first == again
    assert [source.line for _, source in first] != [source.line for _, source in other]
    assert json.loads(first[0][0].model_dump_json())["id"] == "r01-extract-k00-e0000"
