"""How much the gateway takes on, and what it says of more."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from oel_core.config.serving import ServeConfig
from oel_core.errors import ArtifactError, BusyError, ConfigError, ServiceError
from oel_core.serving.api.access import TOKEN, token_of
from oel_core.serving.api.limits import RateLimit
from oel_core.serving.api.server import bind_socket
from oel_core.serving.errors import ApiError
from tests.serving.running import PROJECT, Player, config_for, episodes_in, eventually, playing, serving
from tests.serving.running import TOKEN as BEARER


@pytest.fixture
def player() -> Iterator[Player]:
    with playing(Player()) as player:
        yield player


def test_more_requests_than_may_wait_are_refused_and_the_others_answered(tmp_path: Path, player: Player) -> None:
    player.hold = threading.Event()
    with serving(config_for(tmp_path / "inbox", concurrency=1, queue=1)) as served, ThreadPoolExecutor(2) as pool:
        first = pool.submit(served.ask, "a")
        eventually(lambda: player.asked)
        second = pool.submit(served.ask, "b")
        eventually(lambda: served.metric("oel_requests_waiting") == 1)
        with pytest.raises(openai.RateLimitError) as refused:
            served.ask("c")
        assert refused.value.code == "queue_full"
        assert refused.value.response.headers["retry-after"] == "1"
        player.hold.set()
        assert [one.result(60).choices[0].message.content for one in (first, second)] == ["one: a", "one: b"]
        assert served.ask("c").choices[0].message.content == "one: c"


def test_a_client_that_does_not_read_holds_nothing_for_long(
    tmp_path: Path, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its place nor, since it may continue any conversation, the episodes of others."""

    def small(config: ServeConfig) -> socket.socket:
        at = bind_socket(config)
        at.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        return at

    monkeypatch.setattr("tests.serving.running.bind_socket", small)
    monkeypatch.setattr("oel_core.serving.api.app.UNREAD_S", 0.5)
    player.say = lambda messages, path: "x" * 400_000 if messages[-1].content == "much" else "little"
    inbox = tmp_path / "inbox"
    with serving(config_for(inbox, timeout_s=3, session_idle_s=0.1)) as served, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", int(served.url.split(":")[-1].split("/")[0])))
        asked = {"model": PROJECT, "stream": True, "messages": [{"role": "user", "content": "much"}]}
        client.sendall(post(asked))
        eventually(lambda: player.asked)
        served.ask("other")
        eventually(lambda: served.metric("oel_requests_running") == 0)
        eventually(lambda: any(episode.turns[0].response == "little" for episode in episodes_in(inbox)))


def post(body: dict[str, object]) -> bytes:
    """A chat request as bytes."""
    data = json.dumps(body).encode()
    head = f"Host: a\r\nAuthorization: Bearer {BEARER}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    return f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n\r\n".encode() + data


def test_a_body_that_is_too_large_is_refused(tmp_path: Path, player: Player) -> None:
    with serving(config_for(tmp_path / "inbox", max_body_bytes=1000)) as served:
        with pytest.raises(openai.APIStatusError) as refused:
            served.ask("a" * 1000)
        assert refused.value.status_code == 413
        assert served.ask("a").choices[0].message.content == "one: a"


def test_a_rate_refuses_with_the_time_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("oel_core.serving.api.limits.time.monotonic", lambda: now)
    rate = RateLimit(per_minute=20)
    rate.take()
    rate.take()
    with pytest.raises(ApiError) as refused:
        rate.take()
    assert (refused.value.status, refused.value.headers()["Retry-After"]) == (429, "3")
    now += 3
    rate.take()
    with pytest.raises(ApiError):
        rate.take()


def test_an_answer_that_takes_too_long_is_given_up(tmp_path: Path, player: Player) -> None:
    player.hold = threading.Event()
    with serving(config_for(tmp_path / "inbox", timeout_s=0.2)) as served:
        with pytest.raises(openai.APIStatusError) as refused:
            served.ask("a")
        assert refused.value.status_code == 504
        player.hold.set()


def test_the_token_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    token = token_of(tmp_path, None, {})
    assert token_of(tmp_path, None, {}) == token
    assert (tmp_path / TOKEN).stat().st_mode & 0o777 == 0o600
    assert token_of(tmp_path, "KEY", {"KEY": "k" * 20}) == "k" * 20
    with pytest.raises(ConfigError, match="KEY"):
        token_of(tmp_path, "KEY", {})
    (tmp_path / TOKEN).write_text("\n")
    with pytest.raises(ArtifactError, match="delete it"):
        token_of(tmp_path, None, {})


def test_two_gateways_do_not_share_an_inbox(tmp_path: Path, player: Player) -> None:
    config = config_for(tmp_path / "inbox")
    with serving(config), pytest.raises(BusyError), serving(config):
        pass


def test_an_address_that_is_taken_is_said(tmp_path: Path) -> None:
    first = bind_socket(ServeConfig(port=0))
    first.listen()
    with pytest.raises(ServiceError, match="cannot listen on"):
        bind_socket(ServeConfig(port=first.getsockname()[1]))
    first.close()


@pytest.mark.parametrize("model", [{"backend": "vllm"}, {"backend": "openai", "openai": {"managed": True}}])
def test_backends_that_cannot_change_models_while_they_answer_are_refused(tmp_path: Path, model: dict) -> None:
    with pytest.raises(ConfigError, match="model"), serving(config_for(tmp_path / "inbox", model), PROJECT):
        pass
