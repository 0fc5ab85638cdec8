"""Nothing answered is lost or doubled, whatever fails; and a disk that fails keeps no answer back."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.imports.privacy import Masking, Privacy
from oel_core.imports.records import Call
from oel_core.imports.stitching import conversation
from oel_core.runs.jsonl import LineError
from oel_core.serving.recording import handover as handing
from oel_core.serving.recording.feedback import ClientFeedback, effective_feedback, parse_feedback
from oel_core.serving.recording.handover import Handover
from oel_core.serving.recording.journal import JOURNAL, Journal, Taken
from oel_core.serving.recording.recorder import Recorder
from oel_core.types import Feedback, Message
from tests.serving.running import Player, config_for, episodes_in, eventually, handed_over, playing, serving


class Killed(BaseException):
    """Stands for a kill."""


class Counts:
    def __init__(self) -> None:
        self.seen: dict[str, int] = {"recorded": 0, "lost": 0, "failed": 0}

    def recorded(self, calls: int) -> None:
        self.seen["recorded"] += calls

    def lost(self, calls: int) -> None:
        self.seen["lost"] += calls

    def failed(self, waiting: int) -> None:
        self.seen["failed"] += 1

    def handed_over(self, episodes: int) -> None:
        pass


def call(number: int, session: str = "") -> Call:
    return Call(
        id=f"c{number}",
        session=session,
        messages=(Message(role="user", content=f"q{number}"),),
        response=Message(role="assistant", content=f"a{number}"),
        model="m",
    )


def add(journal: Journal, one: Call, after_s: float = 0.0) -> None:
    with journal.transaction():
        journal.add(one, conversation(one), time.time() - 10 + after_s, private=False)


@pytest.fixture
def player() -> Iterator[Player]:
    with playing(Player()) as player:
        yield player


@pytest.mark.parametrize("at", ["_append", "sync_folder", "mark_written", "assign"])
@pytest.mark.parametrize("torn", [False, True])
def test_a_kill_at_any_step_of_the_handover_neither_loses_nor_doubles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, torn: bool
) -> None:
    journal = Journal.open(tmp_path)
    for number in range(3):
        add(journal, call(number))
    real = handing.jsonl_bytes

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    if torn:
        monkeypatch.setattr(handing.os, "fsync", killed)
        monkeypatch.setattr(handing, "jsonl_bytes", lambda episodes: real(episodes)[:-20])
    else:
        place = Journal if at in ("mark_written", "assign") else handing
        monkeypatch.setattr(place, at, killed)
    with pytest.raises(Killed):
        Handover(journal, tmp_path, "lake", 1.0).run(0)
    monkeypatch.undo()
    journal.close()
    for _ in range(2):
        found = handed_over(tmp_path)
        assert sorted(episode.turns[0].response for episode in found) == ["a0", "a1", "a2"]
        assert len({episode.id for episode in found}) == 3


def test_texts_leave_the_journal_when_they_are_in_the_inbox(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    add(journal, call(1))
    Handover(journal, tmp_path, "lake", 1.0).run(0)
    journal.close()
    database = sqlite3.connect(tmp_path / JOURNAL)
    assert database.execute("select id, scope, ending from call").fetchall() == [("c1", None, None)]
    assert database.execute("select count(*) from text").fetchone() == (0,)


def test_texts_that_have_left_make_room_for_the_next_conversations(tmp_path: Path) -> None:
    """Ids are kept for late feedback, so the journal grows by them, and not by the texts."""
    journal, size, grown = Journal.open(tmp_path), 0, []
    text = "word " * 2000
    for number in range(1, 21):
        add(journal, call(number).model_copy(update={"response": Message(role="assistant", content=text)}))
        Handover(journal, tmp_path, "lake", 1.0).run(0)
        ((pages,),) = sqlite3.connect(tmp_path / JOURNAL).execute("pragma page_count")
        grown.append(pages - size)
        size = pages
    assert sum(grown[1:]) * 4096 < len(text)
    journal.close()


def test_the_same_call_twice_is_one(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    add(journal, call(1))
    add(journal, call(1))
    journal.close()
    assert len(handed_over(tmp_path)) == 1


def recorder_of(inbox: Path, counts: Counts) -> Recorder:
    journal = Journal.open(inbox)
    handover = Handover(journal, inbox, "lake", 1.0)
    return Recorder(journal, handover, Masking(b"s" * 32), Privacy.MASK, 600.0, counts)


def test_a_disk_that_fails_is_counted_and_what_waited_is_written_when_it_works_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oel_core.serving.recording.recorder.RETRY_S", 0.02)
    counts, full = Counts(), threading.Event()
    real = Journal.add

    def add_or_fail(*arguments: Any, **options: Any) -> None:
        if full.is_set():
            raise sqlite3.OperationalError("database or disk is full")
        real(*arguments, **options)

    monkeypatch.setattr(Journal, "add", add_or_fail)
    recorder = recorder_of(tmp_path, counts)
    recorder.start()
    assert recorder.record(call(1)).result(30) is True
    full.set()
    assert recorder.record(call(2)).result(30) is False
    assert not recorder.healthy
    assert counts.seen["failed"] >= 1
    full.clear()
    eventually(lambda: recorder.healthy)
    recorder.close()
    assert counts.seen["recorded"] == 2
    assert counts.seen["lost"] == 0
    assert sorted(episode.turns[0].response for episode in handed_over(tmp_path)) == ["a1", "a2"]


def test_a_really_full_disk(tmp_path: Path) -> None:
    """SQLite's own error, by a limit of the database's pages."""
    counts = Counts()
    recorder = recorder_of(tmp_path, counts)
    database = recorder._journal._database
    (pages,) = database.execute("pragma page_count").fetchone()
    database.execute(f"pragma max_page_count = {pages}")
    recorder.start()
    large = call(1).model_copy(update={"response": Message(role="assistant", content="a" * 10**6)})
    assert recorder.record(large).result(30) is False
    recorder.close()
    assert counts.seen == {"recorded": 0, "lost": 1, "failed": counts.seen["failed"]}
    assert counts.seen["failed"] >= 1


def test_what_memory_does_not_hold_is_lost_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oel_core.serving.recording.recorder.WAITING", 2)
    counts = Counts()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "add", fail)
    recorder = recorder_of(tmp_path, counts)
    recorder.start()
    for number in range(5):
        assert recorder.record(call(number)).result(30) is False
    recorder.close()
    assert counts.seen["lost"] == 5, "three did not fit, two were left at the end"


def test_a_recorder_that_died_keeps_no_answer_back(
    tmp_path: Path, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise AssertionError("a fault of the program")

    monkeypatch.setattr("oel_core.serving.api.chat.RECORD_WAIT_S", 0.2)
    with serving(config_for(tmp_path / "inbox")) as served:
        monkeypatch.setattr(Journal, "add", die)
        for _ in range(3):
            assert served.ask("hello").choices[0].message.content == "one: hello"
        assert served.http.get("/healthz").json()["status"] == "degraded"
        assert served.metric('oel_calls_total{result="lost"}') >= 2
        assert served.rate(session_id="s", score=1).status_code == 503


def test_feedback_of_a_session_goes_to_its_last_conversation(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    for number in (1, 2):
        add(journal, call(number, "s"), after_s=float(number))
    with journal.transaction():
        given = ClientFeedback(session="s", feedback=Feedback(source="human", score=1.0, whole=True))
        assert journal.add_feedback(given, time.time()) == Taken(late=False, version="m", new=True)
        assert journal.add_feedback(given.model_copy(update={"session": "t"}), time.time()) is None
    journal.close()
    assert [episode.reward for episode in handed_over(tmp_path)] == [0.0, 1.0]


def given_by(user: str, **values: Any) -> ClientFeedback:
    return ClientFeedback(response="r", user=user, feedback=Feedback(source="human", **values))


def test_later_words_of_the_same_person_replace_earlier_ones_value_by_value() -> None:
    found = effective_feedback(
        [
            given_by("ann", thumbs=False, comment="Rude."),
            given_by("bob", thumbs=False),
            given_by("ann", thumbs=True),
            given_by("ann", comment="Fine."),
        ]
    )
    assert [(one.thumbs, one.comment, one.superseded) for one in found] == [
        (False, "Rude.", True),
        (False, "", False),
        (True, "", False),
        (None, "Fine.", False),
    ]


values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()))


@given(
    st.dictionaries(
        st.sampled_from(["response_id", "session_id", "user", "name", "source", "score", "thumbs", "comment", "x"]),
        values,
    )
)
def test_any_body_is_feedback_or_refused_with_its_field(body: dict[str, Any]) -> None:
    try:
        found = parse_feedback(body, 1.0)
    except LineError:
        return
    assert bool(found.response) != bool(found.session)
    assert effective_feedback([found]) == [found.feedback]


def test_nothing_reaches_the_inbox_before_it_is_whole(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    add(journal, call(1))
    journal.close()
    assert episodes_in(tmp_path) == []
