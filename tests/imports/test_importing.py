"""Imports: idempotent, atomic, and without private data."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from oel_core.errors import ArtifactError, BusyError, ConfigError
from oel_core.imports import importing
from oel_core.imports.importing import ALREADY_IMPORTED, PRIVATE, Import, import_logs
from oel_core.imports.privacy import SALT, Privacy
from oel_core.projects.quarantine import REFUSED, LeftOut
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.locks import exclusive
from oel_core.types import Trajectory
from tests.imports.reading import imported

CHAT = "openai-chat"
SECRETS = (
    "jo.doe@example.org",
    "+49 170 1234567",
    "4111 1111 1111 1111",
    "sk-abcdefghijklmnop1234",
    "hunter2hunter2",
)


def logged(id: str, *said: Any, **more: Any) -> dict[str, Any]:
    """A logged call: texts alternate between user and assistant, the last is the answer."""
    roles = ("user", "assistant")
    messages = [
        {"role": roles[place % 2], "content": text} if isinstance(text, str) else text
        for place, text in enumerate(said)
    ]
    response = {"choices": [{"message": messages[-1], "finish_reason": "stop"}]}
    return {"id": id, "request": {"messages": messages[:-1]}, "response": response, **more}


def log(path: Path, *calls: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(call) + "\n" for call in calls))
    return path


def test_importing_again_adds_nothing_and_a_longer_log_adds_what_is_new(tmp_path: Path) -> None:
    first = logged("a", "1", "2")
    done, episodes = imported(CHAT, log(tmp_path / "log.jsonl", first), tmp_path / "in")
    assert (done.episodes, done.turns, done.file) == (1, 1, "openai-chat-log-001.jsonl")
    again, _ = imported(CHAT, tmp_path / "log.jsonl", tmp_path / "in")
    assert (again.episodes, again.file, dict(again.dropped)) == (0, None, {ALREADY_IMPORTED: 1})
    longer = log(tmp_path / "log.jsonl", first, logged("b", "1", "2", "3", "4"))
    grown, more = imported(CHAT, longer, tmp_path / "in")
    assert (grown.episodes, grown.turns, dict(grown.dropped)) == (1, 1, {ALREADY_IMPORTED: 1})
    assert [message.content for message in more[0].turns[0].messages] == ["1", "2", "3"]
    assert more[0].id != episodes[0].id
    assert len(list((tmp_path / "in").glob("*.jsonl"))) == 2


def test_ids_are_the_same_in_every_inbox(tmp_path: Path) -> None:
    source = log(tmp_path / "log.jsonl", logged("a", "1", "2"))
    assert imported(CHAT, source, tmp_path / "x")[1] == imported(CHAT, source, tmp_path / "y")[1]


@pytest.mark.parametrize("when", ["before the file has its name", "after the file has its name"])
def test_a_kill_neither_loses_nor_doubles_an_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    source, inbox, replace = log(tmp_path / "log.jsonl", logged("a", "1", "2")), tmp_path / "in", os.replace

    def killed(*paths: Any) -> None:
        if when.startswith("after"):
            replace(*paths)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(importing.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            imported(CHAT, source, inbox)
    imported(CHAT, source, inbox)
    found = [episode for path in inbox.glob("*.jsonl") for episode in read_jsonl(path, Trajectory)]
    assert len(found) == 1
    assert not list(inbox.glob(".*.partial"))


def test_two_imports_into_one_inbox_do_not_run_at_once(tmp_path: Path) -> None:
    source = log(tmp_path / "log.jsonl", logged("a", "1", "2"))
    with exclusive(tmp_path / "in" / importing.LOCK), pytest.raises(BusyError, match="in use by"):
        imported(CHAT, source, tmp_path / "in")


def test_what_cannot_be_imported_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean openai-chat"):
        imported("openai-chats", tmp_path, tmp_path / "in")
    with pytest.raises(ArtifactError, match="neither a file nor a folder"):
        imported(CHAT, tmp_path / "absent", tmp_path / "in")
    with pytest.raises(ArtifactError, match="has no logs"):
        imported(CHAT, tmp_path, tmp_path / "in")
    assert not (tmp_path / "in").exists()


def secretive() -> dict[str, Any]:
    """A call that has private data in every text."""
    mail, phone, card, key, word = SECRETS
    call = {
        "id": f"call {mail}",
        "function": {"name": "pay", "arguments": json.dumps({"card": card, "password": word})},
    }
    declared = {"name": "pay", "description": f"Ask {mail}.", "parameters": {"type": "object", "title": phone}}
    request = {
        "model": f"m-{key}",
        "tools": [{"type": "function", "function": declared}],
        "messages": [
            {"role": "system", "content": f"The key is {key}."},
            {"role": "user", "content": f"I am {mail}, {phone}."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"call {mail}", "content": json.dumps({"owner": mail, "password": word})},
        ],
    }
    answer = {"role": "assistant", "content": f"Paid with {card} by {mail}."}
    said = {"score": 1, "label": mail, "comment": phone, "correction": card, "expected": key, "name": mail}
    said["rubric"] = mail
    return {
        "id": f"id-{mail}",
        "request": request,
        "response": {"choices": [{"message": answer}]},
        "metadata": {"session": mail, "user": phone, "feedback": said},
    }


def written(inbox: Path) -> str:
    """Everything in an inbox that is text."""
    files = [path for path in inbox.rglob("*") if path.is_file() and path.name != SALT]
    return "".join(path.read_bytes().decode(errors="replace") for path in files)


def test_no_private_data_of_any_field_is_written(tmp_path: Path) -> None:
    bad = {"messages": [{"role": "nobody", "content": " ".join(SECRETS[:4]) + f" password={SECRETS[4]}"}]}
    source = log(tmp_path / "log.jsonl", secretive(), bad)
    done, episodes = imported(CHAT, source, tmp_path / "in", Privacy.MASK)
    assert (done.episodes, sum(done.left_out.values())) == (1, 1)
    assert [secret for secret in SECRETS if secret in written(tmp_path / "in")] == []
    assert stat.S_IMODE((tmp_path / "in" / SALT).stat().st_mode) == 0o600
    prompt = episodes[0].turns[0].messages
    arguments = json.loads(prompt[2].tool_calls[0].arguments)
    assert arguments["card"].startswith("<card-")
    assert arguments["password"].startswith("<secret-")
    assert prompt[2].tool_calls[0].id == prompt[3].tool_call_id
    assert json.loads(prompt[3].content)["owner"] in prompt[1].content  # the same person is the same word


def test_pseudonyms_differ_from_inbox_to_inbox(tmp_path: Path) -> None:
    source = log(tmp_path / "log.jsonl", logged("a", "I am jo.doe@example.org", "Hello"))
    prompts = [imported(CHAT, source, tmp_path / name, Privacy.MASK)[1][0].turns[0].messages for name in ("x", "y")]
    assert prompts[0] != prompts[1]


def test_sessions_with_private_data_are_dropped_or_kept_as_asked(tmp_path: Path) -> None:
    source = log(tmp_path / "log.jsonl", secretive(), logged("b", "1", "2"))
    dropped, left = imported(CHAT, source, tmp_path / "drop", Privacy.DROP)
    assert (dict(dropped.dropped), [episode.turns[0].response for episode in left]) == ({PRIVATE: 1}, ["2"])
    assert [secret for secret in SECRETS if secret in written(tmp_path / "drop")] == []
    _, kept = imported(CHAT, source, tmp_path / "keep", Privacy.KEEP)
    assert kept[0].turns[0].messages[1].content == "I am jo.doe@example.org, +49 170 1234567."


def test_refused_entries_are_kept_with_place_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("\n{\n" + json.dumps(logged("a", {"role": "cat", "content": "x"}, "y")) + "\n")
    imported(CHAT, path, tmp_path / "in")
    kept = list(read_jsonl(tmp_path / "in" / REFUSED / "openai-chat-log.jsonl", LeftOut))
    assert [(one.file, one.line, one.field) for one in kept] == [
        ("log.jsonl", 2, ""),
        ("log.jsonl", 3, "request.messages.0.role"),
    ]
    assert kept[0].text == "{"


def test_a_json_document_and_a_folder_are_logs_too(tmp_path: Path) -> None:
    (tmp_path / "logs" / "day").mkdir(parents=True)
    (tmp_path / "logs" / "day" / "a.json").write_text(json.dumps([logged("a", "1", "2"), logged("b", "3", "4")]))
    log(tmp_path / "logs" / "b.jsonl", logged("c", "1", "2", "5", "6"))
    _, episodes = imported(CHAT, tmp_path / "logs", tmp_path / "in")
    assert [[turn.response for turn in episode.turns] for episode in episodes] == [["2", "6"], ["4"]]


@pytest.mark.parametrize(
    ("said", "top", "expected"),
    [
        ({"score": 0.25}, 1.0, 0.25),
        ({"score": 4}, 5.0, 0.8),
        ({"thumbs": "down"}, 1.0, 0.0),
        ({"thumbs": True}, 5.0, 1.0),
        ([{"score": 0, "source": "judge"}, {"score": 1, "source": "human"}], 1.0, 1.0),
        ([{"score": 0, "superseded": True}, {"score": 1}], 1.0, 1.0),
        ([{"score": 0}, {"score": 1}], 1.0, 0.5),
        ({"comment": "fine"}, 1.0, 0.0),
    ],
)
def test_the_reward_is_what_people_said(tmp_path: Path, said: Any, top: float, expected: float) -> None:
    source = log(tmp_path / "log.jsonl", logged("a", "1", "2", metadata={"feedback": said}))
    _, (episode,) = imported(CHAT, source, tmp_path / "in", top_score=top)
    assert (episode.reward, episode.turns[-1].reward) == (expected, expected)


def test_the_extractor_reads_corrections_and_expected_answers(tmp_path: Path) -> None:
    said = {"score": 0, "comment": "wrong", "correction": "3", "expected": "three", "name": "quality"}
    source = log(tmp_path / "log.jsonl", logged("a", "1", "2", metadata={"feedback": said}))
    _, (episode,) = imported(CHAT, source, tmp_path / "in")
    assert episode.feedback == (
        "human (quality) on answer 1: score 0; comment: wrong; correct answer: 3; expected answer: three"
    )


def test_an_episode_keeps_feedback_by_turn_and_pseudonyms_of_session_and_person(tmp_path: Path) -> None:
    said = {"score": 2, "correction": "6", "rubric": "one number"}
    about = {"session": "s-7", "user_id": "kim@example.org", "feedback": said}
    source = log(tmp_path / "log.jsonl", logged("a", "1", "2", "3", "4", metadata=about))
    _, (episode,) = imported(CHAT, source, tmp_path / "in", top_score=4.0)
    _, (elsewhere,) = imported(CHAT, source, tmp_path / "other")
    (given,) = episode.turns[-1].given
    assert (given.score, given.correction, given.rubric, given.source) == (0.5, "6", "one number", "human")
    assert len(episode.session) == len(episode.user) == 16
    assert episode.session != elsewhere.session
    assert "kim" not in written(tmp_path / "in")
    log(tmp_path / "more.jsonl", logged("b", "7", "8", metadata=about))
    _, (later,) = imported(CHAT, tmp_path / "more.jsonl", tmp_path / "in")
    assert (later.session, later.user) == (episode.session, episode.user)


def test_who_asked_does_not_tell_a_call_from_another(tmp_path: Path) -> None:
    imported(CHAT, log(tmp_path / "a.jsonl", logged("a", "1", "2")), tmp_path / "in")
    done, _ = imported(CHAT, log(tmp_path / "b.jsonl", logged("a", "1", "2", user="kim")), tmp_path / "in")
    assert done.dropped == {ALREADY_IMPORTED: 1}


def test_listed_names_are_masked_in_every_text(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("# customers\nJosé Núñez\n\nann\n")
    said = [
        {"role": "user", "content": "Ann here, annual fee for josé  núñez?"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "pay_ann_1", "function": {"name": "pay_ann", "arguments": json.dumps({"to": "José Núñez"})}}
        ]},
    ]  # fmt: skip
    source = log(tmp_path / "log.jsonl", logged("a", *said, metadata={"feedback": "ANN is happy"}))
    import_logs(Import(CHAT, source, tmp_path / "in", "shop", names=names))
    kept = written(tmp_path / "in").casefold()
    assert [name for name in ("núñez", "n\\u00fa", "ann here", "pay_ann", "ann is") if name in kept] == []
    assert "annual fee" in kept


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff"])
def test_a_file_of_names_that_cannot_be_read_stops_the_import(tmp_path: Path, content: bytes | None) -> None:
    source, names = log(tmp_path / "log.jsonl", logged("a", "1", "2")), tmp_path / "names.txt"
    if content is not None:
        names.write_bytes(content)
    with pytest.raises(ConfigError, match=r"--names .*names\.txt cannot be read"):
        import_logs(Import(CHAT, source, tmp_path / "in", "shop", names=names))
    assert not list((tmp_path / "in").glob("*.jsonl"))
