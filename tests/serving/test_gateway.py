"""A client of OpenAI's talks to the gateway; what was said is in the inbox afterwards."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from oel_core.imports.privacy import Masking, salt_of
from oel_core.policies.scripted import END
from oel_core.projects.inbox import new_experience
from oel_core.rollouts.episode import prompt_digest
from oel_core.types import IdSource, Message, StopReason
from tests.serving.running import (
    PROJECT,
    Player,
    Served,
    config_for,
    episodes_in,
    eventually,
    handed_over,
    playing,
    serving,
)

TOOLS = [
    {
        "type": "function",
        "function": {"name": "stock", "description": "Pairs left.", "parameters": {"type": "object", "properties": {}}},
    }
]


@pytest.fixture
def player() -> Iterator[Player]:
    with playing(Player()) as player:
        yield player


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    return tmp_path / "inbox"


@pytest.fixture
def served(inbox: Path, player: Player) -> Iterator[Served]:
    with serving(config_for(inbox)) as served:
        yield served


def test_an_answer_says_who_gave_it_and_is_an_episode_with_its_exact_ids(inbox: Path, player: Player) -> None:
    with serving(config_for(inbox)) as served:
        answer = served.ask("hello", user="ann", extra_headers={"X-OEL-Session": "s-1"})
    assert answer.choices[0].message.content == "one: hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.system_fingerprint == f"{PROJECT}-one"
    (episode,) = handed_over(inbox)
    (turn,) = episode.turns
    assert turn.messages == (Message(role="user", content="hello"),)
    assert turn.response == "one: hello"
    assert turn.response_ids == (*b"one: hello", END)
    assert turn.prompt_ids_digest == prompt_digest(tuple(b"user\nhello\n"))
    assert turn.id_source is IdSource.SAMPLED
    assert turn.stop_reason is StopReason.EOS
    assert episode.policy == f"{PROJECT}-one"
    masking = Masking(salt_of(inbox))
    assert (episode.session, episode.user) == (masking.id("s-1"), masking.id("ann"))
    found = new_experience(inbox, {}, "lake")
    assert [one.episode for one in found.received] == [episode]
    assert found.left_out == []


def test_a_conversation_that_is_idle_reaches_the_inbox_while_others_are_answered(inbox: Path, player: Player) -> None:
    with serving(config_for(inbox, session_idle_s=0.1)) as served:
        served.ask("hello")
        (episode,) = eventually(lambda: episodes_in(inbox))
        assert episode.turns[0].response == "one: hello"
        assert served.metric("oel_episodes_total") == 1
        served.ask("hello again")
        eventually(lambda: len(episodes_in(inbox)) == 2)


def test_a_conversation_is_not_over_while_its_next_request_may_be_running(inbox: Path, player: Player) -> None:
    """A slow answer must not split a conversation: it is recorded only when it ends."""
    player.hold, slow = threading.Event(), threading.Event()
    player.say = lambda messages, path: "late" if messages[-1].content == "first" or slow.wait(60) else "never"
    with serving(config_for(inbox, session_idle_s=0.1, concurrency=1)) as served, ThreadPoolExecutor(2) as pool:
        first = pool.submit(served.ask, "first")
        eventually(lambda: player.asked)
        talk = [{"role": "user", "content": "first"}, {"role": "assistant", "content": "late"}]
        second = pool.submit(served.ask, "", messages=[*talk, {"role": "user", "content": "second"}])
        eventually(lambda: served.metric("oel_requests_waiting") == 1)
        player.hold.set()
        first.result(60)
        time.sleep(0.5)  # several times as long as a conversation is kept open
        assert episodes_in(inbox) == []
        slow.set()
        second.result(60)
        (episode,) = eventually(lambda: episodes_in(inbox))
    assert [turn.messages[-1].content for turn in episode.turns] == ["first", "second"]


def test_a_stream_gives_the_same_answer_and_the_same_record(inbox: Path, player: Player) -> None:
    with serving(config_for(inbox)) as served:
        chunks = list(served.ask("hello", stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "one: hello"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == len("one: hello") + 1
    assert {chunk.system_fingerprint for chunk in chunks} == {f"{PROJECT}-one"}
    assert [episode.turns[0].response for episode in handed_over(inbox)] == ["one: hello"]


def test_a_tool_is_called_its_result_read_and_both_are_one_episode(inbox: Path, player: Player) -> None:
    player.say = lambda messages, path: (
        "Let me look.\n" + json.dumps({"name": "stock", "arguments": {"item": "boots"}})
        if messages[-1].role == "user"
        else f"There are {messages[-1].content}."
    )
    talk: list[Any] = [{"role": "system", "content": "A shop."}, {"role": "user", "content": "Any boots?"}]
    with serving(config_for(inbox)) as served:
        first = served.ask("", messages=talk, tools=TOOLS)
        message = first.choices[0].message
        assert first.choices[0].finish_reason == "tool_calls"
        assert message.content == "Let me look."
        (call,) = message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("stock", {"item": "boots"})
        talk += [message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "seven"}]
        second = served.ask("", messages=talk, tools=TOOLS)
        assert second.choices[0].message.content == "There are seven."
    (episode,) = handed_over(inbox)
    assert [turn.response.splitlines()[0] for turn in episode.turns] == ["Let me look.", "There are seven."]
    assert episode.turns[0].messages[0].tools[0].name == "stock"
    assert episode.turns[0].observation == "seven"
    assert episode.turns[1].messages[-1].tool_call_id == call.id


def test_calls_in_a_stream_come_as_calls(served: Served, player: Player) -> None:
    player.say = lambda messages, path: '<tool_call>\n{"name": "stock", "arguments": {}}\n</tool_call>'
    chunks = list(served.ask("Any boots?", tools=TOOLS, stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert not any(delta.content for delta in deltas)
    (call,) = next(delta.tool_calls for delta in deltas if delta.tool_calls)
    assert (call.index, call.function.name, call.function.arguments) == (0, "stock", "{}")
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_sessions_of_a_header_and_sessions_by_what_was_said(inbox: Path, player: Player) -> None:
    def talk(served: Served, *texts: str, **options: Any) -> None:
        messages: list[dict[str, str]] = []
        for text in texts:
            messages.append({"role": "user", "content": text})
            answer = served.ask("", messages=messages, **options)
            messages.append({"role": "assistant", "content": answer.choices[0].message.content})

    with serving(config_for(inbox)) as served:
        talk(served, "a", "b", "c")
        talk(served, "a", "x")
        talk(served, "a", "b", extra_headers={"X-OEL-Session": "s-1"})
    found = handed_over(inbox)
    assert [[turn.messages[-1].content for turn in episode.turns] for episode in found] == [
        ["a", "b", "c"],
        ["a", "x"],
        ["a", "b"],
    ]
    assert [turn.observation for turn in found[0].turns] == ["b", "c", ""]


def test_a_conversation_goes_on_in_the_same_episode_after_the_gateway_was_started_again(
    inbox: Path, player: Player
) -> None:
    talk: list[Any] = [{"role": "user", "content": "a"}]
    with serving(config_for(inbox)) as served:
        served.ask("", messages=talk)
    talk += [{"role": "assistant", "content": "one: a"}, {"role": "user", "content": "b"}]
    with serving(config_for(inbox)) as served:
        served.ask("", messages=talk)
    assert [len(episode.turns) for episode in handed_over(inbox)] == [2]


def test_feedback_joins_its_answer_and_its_session(inbox: Path, player: Player) -> None:
    config = config_for(inbox, top_score=5.0)
    with serving(config) as served:
        answer = served.ask("hello", extra_headers={"X-OEL-Session": "s-1"})
        assert served.rate(response_id=answer.id, thumbs="down", user="ann").json()["status"] == "recorded"
        assert served.rate(response_id=answer.id, comment="Rude.", user="ann").status_code == 201
        assert served.rate(response_id=answer.id, thumbs="up", user="ann").status_code == 201
        assert served.rate(session_id="s-1", score=4, correction="Say goodbye.").status_code == 201
        assert served.rate(response_id="chatcmpl-x", score=1).status_code == 404
        assert served.rate(response_id=answer.id, score=6).json()["error"]["param"] == "score"
    (episode,) = handed_over(inbox, top_score=5.0)
    assert episode.reward == 0.8
    assert episode.feedback.splitlines() == [
        "human on answer 1: comment: Rude.",
        "human on answer 1: thumbs up",
        "human on the conversation: score 4; correct answer: Say goodbye.",
    ]
    assert [(one.thumbs, one.superseded) for one in episode.turns[0].given] == [
        (False, True),
        (None, False),
        (True, False),
        (None, False),
    ]
    with serving(config) as served:
        assert served.rate(response_id=answer.id, thumbs="down").json()["status"] == "late"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b'{"model": "shop"}', 400, "messages"),
        (b'{"model": "shop", "messages": [{"role": "user", "content": "a"}], "n": 2}', 400, "n"),
        (b'{"model": "other", "messages": [{"role": "user", "content": "a"}]}', 404, "model"),
        (b'{"model": "shop", "messages": [{"role": "user", "content": "a"}], "temperature": -1}', 400, "temperature"),
        (b'{"model": "shop", "messages": [{"role": "user", "content": "a"}], "logprobs": true}', 400, "logprobs"),
        (b'{"model": "shop", "messages": [{"role": "stranger", "content": "a"}]}', 400, "messages"),
        (b'{"model": "shop", "messages": [{"role": "assistant", "content": "a"}]}', 400, "messages"),
        (b'{"model": "shop", "messages": [{"role": "user", "content": "\\ud800"}]}', 400, None),
    ],
)
def test_what_cannot_be_answered_is_refused_as_openai_does(
    served: Served, body: bytes, status: int, param: str | None
) -> None:
    said = served.http.post("/v1/chat/completions", content=body)
    assert said.status_code == status
    error = said.json()["error"]
    assert error["param"] == param
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
    assert error["message"]


SCHEMA = {"type": "json_schema", "json_schema": {"name": "order", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("response_format", SCHEMA),
        ("response_format", {"type": "json_object"}),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "stock"}}),
        ("parallel_tool_calls", False),
        ("top_logprobs", 2),
        ("logit_bias", {"7": 1}),
        ("presence_penalty", 0.5),
        ("min_p", 0.1),
        ("guided_json", {"type": "object"}),
        ("structured_outputs", {"regex": "a+"}),
    ],
)
def test_what_this_process_cannot_do_is_refused_by_name_and_not_ignored(
    served: Served, player: Player, name: str, value: Any
) -> None:
    asked = {"model": "shop", "messages": [{"role": "user", "content": "a"}], name: value}
    said = served.http.post("/v1/chat/completions", json=asked)
    error = said.json()["error"]
    assert (said.status_code, error["param"], error["code"]) == (400, name, "unsupported_parameter")
    assert "passed on to the model's server" in error["message"]
    assert player.asked == []


def test_what_changes_nothing_is_accepted_and_what_samples_is_used(served: Served, player: Player) -> None:
    without_effect = {"response_format": {"type": "text"}, "tool_choice": "auto", "logprobs": False, "n": 1}
    more = {"temperature": 0.25, "top_p": 0.5, "top_k": 7, "max_completion_tokens": 5, "seed": 3, "stop": ["zz"]}
    asked = {"model": "shop", "messages": [{"role": "user", "content": "a"}], **without_effect, **more}
    assert served.http.post("/v1/chat/completions", json=asked).status_code == 200
    ((_, _, sampling),) = player.asked
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (0.25, 0.5, 7, 5)


def test_nothing_but_the_health_is_said_without_the_token(served: Served) -> None:
    with pytest.raises(openai.AuthenticationError):
        served.client.with_options(api_key="wrong").models.list()
    for header in ({}, {"Authorization": "Basic abc"}, {"Authorization": "Bearer x"}):
        got = {
            path: httpx.get(served.url.removesuffix("/v1") + path, headers=header).status_code
            for path in ("/healthz", "/metrics", "/v1/models")
        }
        assert got == {"/healthz": 200, "/metrics": 401, "/v1/models": 401}
    assert [model.id for model in served.client.models.list()] == [PROJECT]


def test_secrets_are_masked_and_the_ids_of_what_was_changed_are_gone(inbox: Path, player: Player) -> None:
    with serving(config_for(inbox)) as served:
        served.ask("My address is ann@example.org, call me")
        for path in inbox.iterdir():
            assert b"ann@example.org" not in path.read_bytes(), path
    (episode,) = handed_over(inbox)
    assert "ann@example.org" not in episode.model_dump_json()
    assert "<email-" in episode.turns[0].messages[0].content
    assert episode.turns[0].response_ids == ()
    assert episode.turns[0].prompt_ids_digest == ""


def test_conversations_with_secrets_can_be_left_out(inbox: Path, player: Player) -> None:
    with serving(config_for(inbox, privacy="drop")) as served:
        served.ask("My address is ann@example.org")
        served.ask("hello")
        for path in inbox.iterdir():
            assert b"My address" not in path.read_bytes(), path
    assert [episode.turns[0].response for episode in handed_over(inbox)] == ["one: hello"]
