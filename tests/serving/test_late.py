"""Feedback that comes after its conversation was written down reaches the episode before a round reads it."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oel_core.config.run import OelConfig, parse_config
from oel_core.errors import ArtifactError
from oel_core.projects.deployment import deployed, late_feedback
from oel_core.projects.inbox import accept_all
from oel_core.projects.round_inbox import read_inbox
from oel_core.projects.triggers import begin
from oel_core.runs.folder import RunFolder, open_run
from oel_core.runs.round_start import read_start
from oel_core.serving.recording import handover as handing
from oel_core.serving.recording.feedback import parse_feedback
from oel_core.serving.recording.handover import Handover
from oel_core.serving.recording.journal import JOURNAL, Journal
from tests.serving.running import Player, config_for, episodes_in, eventually, playing, serving
from tests.serving.test_recorder import Killed, add, call


@pytest.fixture
def player() -> Iterator[Player]:
    with playing(Player()) as player:
        yield player


def project(tmp_path: Path) -> tuple[OelConfig, RunFolder]:
    """A project that learns from two episodes of `tmp_path/inbox`."""
    values = {"experience": {"inbox": str(tmp_path / "inbox"), "min_episodes": 2}}
    return parse_config(values, "test"), open_run(tmp_path / "runs", "shop")


def rate(journal: Journal, response: str, **said: Any) -> None:
    with journal.transaction():
        taken = journal.add_feedback(parse_feedback({"response_id": response, **said}, 5.0), time.time())
    assert taken is not None
    assert taken.late


def conversation(journal: Journal) -> None:
    """Two calls of one conversation, the first with feedback in time, handed over; and another one."""
    first = call(1)
    add(journal, first)
    second = call(2).model_copy(update={"messages": (*first.messages, first.response, *call(2).messages)})
    add(journal, second)
    with journal.transaction():
        journal.add_feedback(parse_feedback({"response_id": "c1", "score": 1, "user": "ann"}, 5.0), time.time() - 10)
    add(journal, call(3))


def test_it_joins_the_episode_before_a_round_reads_it(tmp_path: Path, player: Player) -> None:
    config, run = project(tmp_path)
    with serving(config_for(tmp_path / "inbox", session_idle_s=0.1)) as served:
        answers = [served.ask(text) for text in ("hello", "bye")]
        eventually(lambda: len(episodes_in(tmp_path / "inbox")) == 2)
        said = served.rate(response_id=answers[0].id, thumbs="up", comment="Thanks!")
        assert (said.status_code, said.json()["status"]) == (201, "late")
        eventually(lambda: late_feedback(tmp_path / "inbox"))
        assert served.metric('oel_feedback_total{result="late",version="shop-one"}') == 1
    found = {
        one.episode.turns[0].messages[0].content: one.episode for one in read_inbox(config, run, accept_all).received
    }
    assert (found["hello"].reward, found["bye"].reward) == (1.0, 0.0)
    assert found["hello"].feedback == "human on answer 1: thumbs up; comment: Thanks!"
    assert [one.thumbs for one in found["hello"].turns[0].given] == [True]
    begun = begin(config, run, "t", 0)
    assert begun.round == 1
    start = read_start(run, 1)
    assert start is not None
    assert (start.inbox_episodes, start.inbox_rated_late) == (2, 1)


def test_it_supersedes_what_the_same_person_said_in_time(tmp_path: Path) -> None:
    (inbox := tmp_path / "inbox").mkdir()
    journal = Journal.open(inbox)
    conversation(journal)
    handover = Handover(journal, inbox, "lake", 5.0)
    handover.run(0)
    rate(journal, "c1", score=5, user="ann")
    rate(journal, "c2", comment="rude")
    handover.run(0)
    journal.close()
    whole = next(one for one in deployed(inbox) if len(one.turns) == 2)
    assert [(one.score, one.superseded) for one in whole.turns[0].given] == [(0.2, True), (1.0, False)]
    assert [one.comment for one in whole.turns[1].given] == ["rude"]
    assert whole.reward == whole.turns[-1].reward == 1.0
    assert whole.feedback == "human on answer 1: score 5\nhuman on answer 2: comment: rude"


def test_an_episode_that_a_round_has_read_is_not_read_again(tmp_path: Path) -> None:
    config, run = project(tmp_path)
    (inbox := tmp_path / "inbox").mkdir()
    journal = Journal.open(inbox)
    conversation(journal)
    handover = Handover(journal, inbox, "lake", 5.0)
    handover.run(0)
    assert begin(config, run, "t", 0).round == 1
    rate(journal, "c3", score=5)
    handover.run(0)
    journal.close()
    found = read_inbox(config, run, accept_all)
    assert (found.received, found.rated_late) == ([], 0)
    assert [one.reward for one in deployed(inbox) if len(one.turns) == 1] == [1.0]


@pytest.mark.parametrize("at", ["_append", "written", "torn"])
def test_a_kill_while_it_is_written_down_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    (inbox := tmp_path / "inbox").mkdir()
    journal = Journal.open(inbox)
    conversation(journal)
    Handover(journal, inbox, "lake", 5.0).run(0)
    rate(journal, "c3", score=5)

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    if at == "torn":
        real = handing.jsonl_bytes
        monkeypatch.setattr(handing.os, "fsync", killed)
        monkeypatch.setattr(handing, "jsonl_bytes", lambda records: real(records)[:-20])
    else:
        monkeypatch.setattr(Journal if at == "written" else handing, at, killed)
    with pytest.raises(Killed):
        Handover(journal, inbox, "lake", 5.0).run(0)
    monkeypatch.undo()
    journal.close()
    for _ in range(2):
        journal = Journal.open(inbox)
        Handover(journal, inbox, "lake", 5.0).run(0)
        journal.close()
        assert sorted(one.reward for one in deployed(inbox)) == [0.2, 1.0]


def test_feedback_that_comes_again_counts_once(tmp_path: Path) -> None:
    (inbox := tmp_path / "inbox").mkdir()
    journal = Journal.open(inbox)
    add(journal, call(1))
    given = parse_feedback({"response_id": "c1", "comment": "rude"}, 1.0).model_copy(update={"source_id": "x-1"})
    with journal.transaction():
        taken = [journal.add_feedback(given, time.time() - 10) for _ in range(2)]
    assert taken == [(False, "m", True), (False, "m", False)]
    Handover(journal, inbox, "lake", 1.0).run(0)
    journal.close()
    (episode,) = episodes_in(inbox)
    assert len(episode.turns[0].given) == 1


def test_a_journal_of_another_version_is_refused_and_not_changed(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / JOURNAL)
    database.executescript("create table chain (number integer primary key, id text)")
    database.close()
    with pytest.raises(ArtifactError, match="another version of oel"):
        Journal.open(tmp_path)
