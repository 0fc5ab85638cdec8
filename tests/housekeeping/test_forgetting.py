"""Recorded conversations are removed from inboxes and rounds, whatever is killed when, and nothing else changes."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import from_json

from flows.cli.app import call
from oel_core.bundles.archive import write_archive
from oel_core.bundles.records import MADE, MadeBundle
from oel_core.cases.frozen import CASES, read_cases, write_cases
from oel_core.cases.known import cases_of
from oel_core.errors import ArtifactError, BusyError
from oel_core.housekeeping.forgetting import erasure
from oel_core.housekeeping.forgetting.erasure import AUDIT, JOURNAL, Forgotten
from oel_core.housekeeping.forgetting.forget import Report, forget_in_inbox, forget_in_run
from oel_core.housekeeping.forgetting.search import FORGOTTEN
from oel_core.housekeeping.forgetting.selection import Selection
from oel_core.imports.importing import ALREADY_IMPORTED, LOCK
from oel_core.imports.privacy import Masking, Privacy, salt_of
from oel_core.imports.records import Call
from oel_core.imports.stitching import conversation
from oel_core.knowledge.store import write_knowledge
from oel_core.projects.deployment import DEPLOYMENT, LateFeedback, ShadowAnswer, late_feedback, shadow_answers
from oel_core.projects.inbox import INBOX, new_experience
from oel_core.projects.round_cases import RESERVED, Reserved, set_apart
from oel_core.rounds.context import TRAJECTORIES
from oel_core.runs.folder import RunFolder, adopt_config, check_stages, open_run, stage_key
from oel_core.runs.jsonl import jsonl_bytes, read_jsonl
from oel_core.runs.locks import exclusive
from oel_core.runs.round_start import RoundStart, write_start
from oel_core.serving.recording.feedback import ClientFeedback
from oel_core.serving.recording.journal import Journal
from oel_core.types import ExperienceItem, Feedback, Knowledge, Message, Trajectory
from tests.imports.reading import imported
from tests.imports.test_importing import log, logged
from tests.runs_on_disk import finished_run

KIM, LEE, SECRET = "kim@example.org", "lee", "my parcel A1 is late"
NOW = 1764000000.0


def entries() -> list[dict[str, Any]]:
    """Two sessions of one person, one of another, and an entry that is left out and names the first."""
    return [
        logged("a", SECRET, "2", session="s1", user=KIM, timestamp=NOW),
        logged("b", "and A2?", "4", session="s2", user=KIM, timestamp=NOW + 100),
        logged("c", "other", "6", session="s3", user=LEE),
        logged("d", {"role": "cat", "content": SECRET}, "x", user=KIM),
    ]


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    imported("openai-chat", log(tmp_path / "log.jsonl", *entries()), tmp_path / "inbox", Privacy.MASK)
    return tmp_path / "inbox"


@pytest.fixture
def run(tmp_path: Path, inbox: Path) -> RunFolder:
    """A project whose first round has learned from the inbox, and whose second starts from the first's model."""
    run = finished_run(tmp_path / "runs", "shop", rounds=2)
    config = run.config().model_copy(
        update={"experience": run.config().experience.model_copy(update={"inbox": str(inbox)})}
    )
    adopt_config(run, config)
    received = new_experience(inbox, {}, "shop").received
    folder = run.path / "round_01"
    (folder / INBOX).write_bytes(jsonl_bytes(received))
    reserved = [Reserved(place="aside", received=one) for one in received]
    (folder / RESERVED).write_bytes(jsonl_bytes(reserved))
    names = {"s1": "r01-extract-k00-e0000", "s2": "r01-extract-k00-e0001", "s3": "r01-distill-k00-e0000"}
    played = [one.episode.model_copy(update={"id": name}) for one, name in zip(received, names.values(), strict=True)]

    def collected(stage: Path) -> dict[str, float]:
        (stage / TRAJECTORIES).write_bytes(jsonl_bytes(played))
        return {}

    def accumulated(stage: Path) -> dict[str, float]:
        items = [item("- Parcels are late.\n", played[0].id, played[2].id), item("- Be short.", played[2].id)]
        text = "".join(one.text for one in items)
        write_knowledge(stage, 0, Knowledge(replica=0, round=1, items=tuple(items), text=text, tokens=5))
        return {}

    run.perform(stage_key(config, 1, "collect", ["seed"], {}), collected)
    run.perform(stage_key(config, 1, "accumulate", ["seed"], {}), accumulated)
    return run


def item(text: str, *sources: str) -> ExperienceItem:
    return ExperienceItem(text=text, sources=sources, round=1, format="itemised", model="m")


def in_inbox(inbox: Path, *ids: str, before: float | None = None, remove: bool = True) -> Report:
    return forget_in_inbox(inbox, Selection.of(ids, before, [inbox]), remove=remove)


def texts(folder: Path) -> str:
    return "".join(
        path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"
    )


def sizes(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in folder.rglob("*.jsonl")}


def test_a_persons_sessions_go_and_the_others_stay(inbox: Path) -> None:
    before, length = new_experience(inbox, {}, "shop").received, sizes(inbox)
    done = in_inbox(inbox, KIM)
    assert (done.episodes, done.copies) == (2, 1)
    assert SECRET not in texts(inbox)
    left = new_experience(inbox, {}, "shop")
    assert left.left_out == []
    assert left.received == [one for one in before if one.episode.turns[0].response == "6"]
    assert sizes(inbox) == length


def test_a_session_is_forgotten_by_its_id(inbox: Path) -> None:
    assert in_inbox(inbox, "s2").episodes == 1
    assert [one.episode.turns[0].response for one in new_experience(inbox, {}, "shop").received] == ["2", "6"]


def test_nothing_is_removed_unless_it_is_asked(inbox: Path) -> None:
    whole = texts(inbox)
    assert in_inbox(inbox, KIM, remove=False).episodes == 2
    assert texts(inbox) == whole


def test_again_finds_nothing_and_importing_again_brings_nothing_back(inbox: Path, tmp_path: Path) -> None:
    in_inbox(inbox, KIM)
    again = in_inbox(inbox, KIM)
    assert (again.episodes, again.copies) == (0, 0)
    done, episodes = imported("openai-chat", tmp_path / "log.jsonl", inbox, Privacy.MASK)
    assert (episodes, done.dropped[ALREADY_IMPORTED]) == ([], 3)


def test_what_is_said_afterwards_names_nobody(inbox: Path) -> None:
    in_inbox(inbox, KIM)
    (line,) = (inbox / AUDIT).read_text().splitlines()
    said = Forgotten.model_validate_json(line)
    assert (said.episodes, said.copies) == (2, 1)
    assert not [word for word in Selection.of([KIM], None, [inbox]).texts if word in line]
    assert not (inbox / JOURNAL).exists()


def test_old_conversations_go_and_those_without_a_time_are_counted(inbox: Path) -> None:
    done = in_inbox(inbox, before=NOW + 50)
    assert (done.episodes, done.undated, done.copies) == (1, 1, 0)
    assert [one.episode.turns[0].response for one in new_experience(inbox, {}, "shop").received] == ["4", "6"]
    assert in_inbox(inbox, before=time.time() + 50).copies == 1


def test_rounds_lose_the_words_and_keep_their_counts(run: RunFolder, inbox: Path) -> None:
    done = forget_in_run(run, Selection.of([KIM], None, [inbox]), remove=True)
    assert done.episodes == 6  # in the round's own copies of the inbox, and as it used them
    kept = [one.received.episode for one in read_jsonl(run.path / "round_01" / RESERVED, Reserved)]
    assert [len(one.turns) for one in kept] == [0, 0, 1]
    assert SECRET not in texts(run.path)
    episodes = list(read_jsonl(run.stage_path(1, "collect") / TRAJECTORIES, Trajectory))
    assert [(len(one.turns), one.error) for one in episodes] == [(0, FORGOTTEN), (0, FORGOTTEN), (1, None)]
    check_stages(run, run.config())  # the stages are still what their manifests say, but for what was noted


def test_another_change_of_the_file_is_still_noticed(run: RunFolder, inbox: Path) -> None:
    forget_in_run(run, Selection.of([KIM], None, [inbox]), remove=True)
    path = run.stage_path(1, "collect") / TRAJECTORIES
    path.write_bytes(path.read_bytes().replace(b"other", b"OTHER"))
    with pytest.raises(ArtifactError, match="was changed after its stage finished"):
        check_stages(run, run.config())


def test_what_rests_on_them_is_named(run: RunFolder, inbox: Path) -> None:
    done = forget_in_run(run, Selection.of(["s1"], None, [inbox]), remove=False)
    assert [(one.file, one.item) for one in done.items] == [("round_01/accumulate/knowledge_00.json", 1)]
    assert done.models == (1, 2)
    none = forget_in_run(run, Selection.of(["nobody"], None, [inbox]), remove=False)
    assert (none.episodes, none.items, none.models) == (0, (), ())


def test_a_model_that_does_not_start_from_it_does_not_rest_on_it(run: RunFolder, inbox: Path) -> None:
    write_start(run, 2, RoundStart(parent=0, knowledge=None, trigger="t"))
    assert forget_in_run(run, Selection.of(["s1"], None, [inbox]), remove=False).models == (1,)


def test_an_open_round_is_not_changed(run: RunFolder, inbox: Path) -> None:
    write_start(run, 2, RoundStart(parent=1, knowledge=None, trigger="t"))
    whole = texts(run.path)
    with pytest.raises(ArtifactError, match="oel abandon shop 2"):
        forget_in_run(run, Selection.of([KIM], None, [inbox]), remove=True)
    assert SECRET in whole
    assert texts(run.path / "round_01") in whole


def test_an_import_at_the_same_time_is_waited_for(inbox: Path) -> None:
    with exclusive(inbox / LOCK), pytest.raises(BusyError):
        in_inbox(inbox, KIM)


def served_talk(inbox: Path, id: str, session: str, user: str) -> Call:
    """A call that the gateway has recorded and not handed over."""
    masking = Masking(salt_of(inbox))
    one = Call(
        id=id,
        session=masking.id(session),
        user=masking.id(user),
        messages=(Message(role="user", content=SECRET),),
        response=Message(role="assistant", content="Sorry."),
        model="shop-one",
    )
    journal = Journal.open(inbox)
    with journal.transaction():
        journal.add(one, conversation(one), NOW, private=False)
        journal.add_feedback(ClientFeedback(response=id, feedback=Feedback(source="human", comment=SECRET)), NOW)
    journal.close()
    return one


def test_what_the_gateway_has_not_handed_over_is_found_and_removed(inbox: Path) -> None:
    served_talk(inbox, "c1", "s8", KIM)
    served_talk(inbox, "c2", "s9", LEE)
    assert in_inbox(inbox, KIM, remove=False).open == 1
    assert in_inbox(inbox, KIM).open == 1
    assert in_inbox(inbox, KIM).open == 0
    assert in_inbox(inbox, LEE, remove=False).open == 1
    in_inbox(inbox, LEE)
    for path in inbox.glob(".served.sqlite*"):
        assert SECRET.encode() not in path.read_bytes(), path


def test_old_ones_that_were_not_handed_over_go_too(inbox: Path) -> None:
    served_talk(inbox, "c1", "s8", KIM)
    assert in_inbox(inbox, before=NOW - 1).open == 0
    assert in_inbox(inbox, before=NOW + 1).open == 1


def test_late_feedback_and_shadow_answers_go_with_their_episode(inbox: Path) -> None:
    (inbox / DEPLOYMENT).mkdir()
    ids = [one.episode.id for one in new_experience(inbox, {}, "shop").received]
    late = [LateFeedback(episode=id, given=((),), reward=0.0, feedback=SECRET, at=NOW) for id in ids]
    shadows = [ShadowAnswer(episode=id, turn=0, candidate="two", response=SECRET, at=NOW) for id in ids]
    (inbox / DEPLOYMENT / "feedback-2026-01-01.jsonl").write_bytes(jsonl_bytes(late))
    (inbox / DEPLOYMENT / "shadow-2026-01-01.jsonl").write_bytes(jsonl_bytes(shadows))
    in_inbox(inbox, KIM)
    assert list(late_feedback(inbox)) == ids[2:]
    assert [one.episode for one in shadow_answers(inbox)] == ids[2:]


def test_cases_stay_where_they_are_and_are_in_no_later_set(run: RunFolder, inbox: Path) -> None:
    received = new_experience(inbox, {}, "shop").received
    cases = [case for one in received for case in cases_of(one.episode, one.episode.session, "held_out", 1)]
    write_cases(run.path / "round_01" / CASES, cases)
    done = forget_in_run(run, Selection.of([KIM], None, [inbox]), remove=False)
    assert [(one.round, len(one.ids)) for one in done.cases] == [(1, 2)]
    forget_in_run(run, Selection.of([KIM], None, [inbox]), remove=True)
    assert len(read_cases(run.path / "round_01" / CASES)) == 3
    set_apart(run.config(), run, 2, [])
    assert [case.id for case in read_cases(run.path / "round_02" / CASES)] == [cases[2].id]


def test_bundles_of_a_round_that_has_them_are_named(run: RunFolder, inbox: Path, tmp_path: Path) -> None:
    files = {"manifest.json": b"{}", "README.txt": b"x"}
    write_archive(run.path.parent / "out.zip", files)
    (run.path.parent / "other.zip").write_bytes(b"no archive")
    digest = hashlib.sha256(b"{}").hexdigest()
    made = [MadeBundle(digest=digest, prompts=1), MadeBundle(digest="f" * 64, prompts=1)]
    (run.path / "round_01" / MADE).write_bytes(jsonl_bytes(made))
    done = forget_in_run(run, Selection.of([KIM], None, [inbox]), remove=False)
    assert done.bundles == (str(run.path.parent / "out.zip"), "f" * 64)
    assert forget_in_run(run, Selection.of(["nobody"], None, [inbox]), remove=False).bundles == ()


def _steps() -> Iterator[tuple[str, Callable[[pytest.MonkeyPatch], None]]]:
    """Places where a kill may come: before and after each step that reaches the disk."""
    for name in ("finish", "_overwrite", "note_altered", "recover_jsonl", "JsonlWriter", "sync_folder"):
        for after in (False, True):

            def patch(monkeypatch: pytest.MonkeyPatch, name: str = name, after: bool = after) -> None:
                real = getattr(erasure, name)

                def killed(*arguments: Any) -> None:
                    if after:
                        real(*arguments)
                    raise KeyboardInterrupt

                monkeypatch.setattr(erasure, name, killed)

            yield f"{'after' if after else 'before'} {name}", patch


@pytest.mark.parametrize(("when", "kill"), _steps(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_kill_is_made_good_by_the_next_call(
    run: RunFolder, inbox: Path, when: str, kill: Callable[[pytest.MonkeyPatch], None]
) -> None:
    selection = Selection.of([KIM], None, [inbox])
    with pytest.MonkeyPatch.context() as patch:
        kill(patch)
        with pytest.raises(KeyboardInterrupt):
            forget_in_run(run, selection, remove=True)
    forget_in_run(run, selection, remove=True)
    assert SECRET not in texts(run.path)
    assert not (run.path / JOURNAL).exists()
    check_stages(run, run.config())
    assert len((run.path / AUDIT).read_text().splitlines()) == 1


def test_a_line_that_was_half_overwritten_is_overwritten_again(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(erasure, "finish", lambda folder: None)
        in_inbox(inbox, KIM)
    journal = from_json((inbox / JOURNAL).read_bytes())
    edit = journal["edits"][0]
    path = inbox / edit["file"]
    data = bytearray(path.read_bytes())
    data[edit["offset"] : edit["offset"] + 10] = edit["text"].encode()[:10]
    path.write_bytes(data)
    in_inbox(inbox, "nobody")
    assert SECRET not in texts(inbox)
    assert len(new_experience(inbox, {}, "shop").received) == 1


def test_the_command_says_first_and_removes_then(
    run: RunFolder, inbox: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(run.path.parent)
    assert call(["forget", KIM, "--root", root]) == 0
    said = capfd.readouterr().out
    assert "Nothing is removed" in said
    assert "item 1: - Parcels are late." in said
    assert call(["forget", KIM, "--root", root, "--yes", "--json"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(row["episodes"], row["removed"]) for row in rows] == [(2, True), (6, True)]
    assert call(["forget", KIM, "--root", root]) == 0
    assert "no such conversation" in capfd.readouterr().out


@pytest.mark.parametrize("arguments", [[], [""], ["--older-than", "soon"], ["--older-than", "-1"]])
def test_what_is_wanted_has_to_be_said(arguments: list[str], tmp_path: Path) -> None:
    open_run(tmp_path, "x")
    assert call(["forget", *arguments, "--root", str(tmp_path)]) == 2
