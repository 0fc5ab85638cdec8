"""Feedback that is logged apart from the answer is joined to what it is about."""

import json
from pathlib import Path
from typing import Any

import pytest

from oel_core.imports.privacy import Privacy
from tests.imports.reading import imported
from tests.imports.test_importing import CHAT, SECRETS, log, logged, written

SESSION = [logged("a", "1", "2", session="s"), logged("b", "1", "2", "3", "4", session="s")]


def feedback_of(tmp_path: Path, *entries: dict[str, Any]) -> list[str]:
    _, episodes = imported(CHAT, log(tmp_path / "log.jsonl", *entries), tmp_path / "in")
    return [episode.feedback for episode in episodes]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_it_may_stand_before_or_after_the_answer(tmp_path: Path, place: int) -> None:
    entries = [*SESSION]
    entries.insert(place, {"response_id": "a", "comment": "no"})
    assert feedback_of(tmp_path, *entries) == ["human on answer 1: comment: no"]


def test_the_narrowest_id_that_the_log_has_is_meant(tmp_path: Path) -> None:
    about = (
        {"response_id": "a", "session": "s", "comment": "one"},
        {"response_id": "x", "session": "s", "comment": "all"},
    )
    found = feedback_of(tmp_path, *SESSION, *about)
    assert found == ["human on answer 1: comment: one\nhuman on the conversation: comment: all"]


def test_what_is_about_a_session_is_not_about_its_side_calls(tmp_path: Path) -> None:
    entries = [*SESSION, logged("title", "a title?", "Numbers", session="s"), {"session": "s", "score": 1}]
    assert feedback_of(tmp_path, *entries) == ["human on the conversation: score 1", ""]


def test_what_is_about_nothing_in_the_log_is_counted(tmp_path: Path) -> None:
    entries = [*SESSION, {"response_id": "x", "score": 1}, {"session": "s", "score": 1}]
    done, _ = imported(CHAT, log(tmp_path / "log.jsonl", *entries), tmp_path / "in")
    assert (done.entries, done.calls, done.ratings, done.unmatched) == (4, 2, 2, 1)


def test_an_answer_that_was_rated_apart_is_not_dropped(tmp_path: Path) -> None:
    again = [logged("a", "1", "2", session="s"), logged("b", "1", "3", session="s")]
    assert feedback_of(tmp_path, *again, {"response_id": "a", "score": 1}) == ["human on answer 1: score 1"]


def test_files_of_a_folder_are_joined(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log(folder / "a_feedback.jsonl", {"session": "s", "thumbs": "up"})
    log(folder / "b_calls.jsonl", *SESSION)
    _, (episode,) = imported(CHAT, folder, tmp_path / "in")
    assert (episode.reward, episode.feedback) == (1.0, "human on the conversation: thumbs up")


def test_private_data_in_it_is_masked(tmp_path: Path) -> None:
    rating = {"session": "s", "comment": " ".join(SECRETS[:4])}
    imported(CHAT, log(tmp_path / "log.jsonl", *SESSION, rating), tmp_path / "in", Privacy.MASK)
    assert [secret for secret in SECRETS if secret in written(tmp_path / "in")] == []


def test_token_ids_are_taken_only_where_private_data_is_kept(tmp_path: Path) -> None:
    nodes = [
        {"parent": None, "message": {"role": "user", "content": "x"}, "token_ids": [1], "mask": [False]},
        {
            "parent": 0,
            "message": {"role": "assistant", "content": "y"},
            "token_ids": [2, 3],
            "mask": [False, True],
            "sampled": True,
        },
    ]
    path = tmp_path / "traces.jsonl"
    path.write_text(json.dumps({"id": "t", "nodes": nodes}) + "\n")
    (kept,) = imported("verifiers", path, tmp_path / "keep", Privacy.KEEP)[1]
    assert (kept.turns[0].response_ids, kept.turns[0].prompt_tokens) == ((3,), 2)
    assert kept.turns[0].prompt_ids_digest
    (masked,) = imported("verifiers", path, tmp_path / "mask", Privacy.MASK)[1]
    assert (masked.turns[0].response_ids, masked.turns[0].prompt_ids_digest) == ((), "")
