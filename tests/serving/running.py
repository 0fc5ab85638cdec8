"""A gateway on a free port of loopback, with a policy that tests can look into and a registry that they can change."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import openai
import uvicorn

from oel_core.config.run import ModelConfig, OelConfig, parse_config
from oel_core.config.sampling import Sampling
from oel_core.policies.base import Completion, Policy, Request
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.runs.jsonl import parse_line, whole_lines
from oel_core.serving.answering.champion import Champion, Registered
from oel_core.serving.api.server import BACKLOG, address, bind_socket
from oel_core.serving.gateway import open_gateway
from oel_core.serving.recording.handover import Handover
from oel_core.serving.recording.journal import Journal
from oel_core.serving.recording.traces import Viewer
from oel_core.types import Message, Trajectory

TOKEN = "a-token-of-the-tests"
PROJECT = "shop"


@dataclass
class Player:
    """What the policies of a test say and how."""

    say: Callable[[tuple[Message, ...], str], str] = lambda messages, path: f"{path}: {messages[-1].content}"
    """ClientFeedback the prompt and the checkpoint's path."""
    hold: threading.Event | None = None
    """Answers wait for it."""
    loaded: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    asked: list[tuple[str, tuple[Message, ...], Sampling]] = field(default_factory=list)


PLAYER = Player()
"""Of the test that runs; `playing` sets it."""


class Scripted(ScriptedPolicy):
    """Answers as PLAYER says; batches are answered one after the other."""

    def __init__(self, path: str, player: Player) -> None:
        super().__init__(lambda messages, seed: player.say(messages, path), name=path)
        self._path, self._player = path, player
        player.loaded.append(path)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        self._player.asked += [(self._path, request.messages, sampling) for request in requests]
        if self._player.hold is not None:
            assert self._player.hold.wait(30)
        return super().generate(requests, sampling)

    def close(self) -> None:
        super().close()
        self._player.closed.append(self._path)


def load(path: str, config: ModelConfig) -> Policy:
    """The backend that configurations of these tests name."""
    if path == "broken":
        from oel_core.errors import PolicyError

        raise PolicyError("these weights are broken")
    return Scripted(path, PLAYER)


@contextmanager
def playing(player: Player) -> Iterator[Player]:
    global PLAYER
    PLAYER = player
    try:
        yield player
    finally:
        PLAYER = Player()


def config_for(inbox: Path, model: dict[str, Any] | None = None, use: str = "off", **serve: Any) -> OelConfig:
    """Settings of a project whose conversations go to `inbox`."""
    values = {
        "model": model or {"backend": "tests.serving.running:load"},
        "experience": {"inbox": str(inbox)},
        "serve": {"port": 0, "refresh_s": 0.05, "session_idle_s": 600.0, **serve},
        "gate": {"deployment": {"use": use}},
    }
    return parse_config(values, "test")


@dataclass
class Served:
    """A gateway that runs."""

    url: str
    inbox: Path
    registry: list[str]
    """The champion's path, and perhaps a candidate's; tests put others in their place."""

    @cached_property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key=TOKEN, max_retries=0, timeout=60)

    @cached_property
    def http(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return httpx.Client(base_url=self.url.removesuffix("/v1"), headers=headers, timeout=60)

    def ask(self, text: str, **options: Any) -> Any:
        messages = options.pop("messages", [{"role": "user", "content": text}])
        return self.client.chat.completions.create(model=PROJECT, messages=messages, **options)

    def rate(self, **body: Any) -> httpx.Response:
        return self.http.post("/v1/feedback", json=body)

    def metric(self, name: str) -> float:
        """A sample of /metrics, 0 where there is none yet."""
        lines = self.http.get("/metrics").text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


def episodes_in(inbox: Path) -> list[Trajectory]:
    """What the inbox has. A line that the gateway is writing at this moment is left out."""
    return [parse_line(line, Trajectory) for path in sorted(inbox.glob("*.jsonl")) for line in whole_lines(path)]


def handed_over(inbox: Path, top_score: float = 1.0) -> list[Trajectory]:
    """What the inbox has when every conversation is over. No gateway runs any more."""
    journal = Journal.open(inbox)
    Handover(journal, inbox, "lake", top_score).run(idle_s=0)
    journal.close()
    return episodes_in(inbox)


def adapter(folder: Path, base: Path, weights: bytes) -> None:
    """An adapter folder whose weights nobody reads."""
    folder.mkdir(exist_ok=True)
    values = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(values))
    (folder / "adapter_model.safetensors").write_bytes(weights)


@contextmanager
def serving(config: OelConfig, path: str = "one", viewer: Viewer | None = None) -> Iterator[Served]:
    """The project's gateway until the block ends; `path` is its first champion."""
    registry = [path]

    def lookup() -> Registered:
        if registry[0] == "unreachable":
            raise ConnectionError("no registry")
        found = [Champion(f"{PROJECT}-{path}", path) for path in registry]
        return Registered(*found)

    with open_gateway(PROJECT, config, lookup, TOKEN, viewer) as gateway:
        at = bind_socket(config.serve)
        at.listen(BACKLOG)
        server = uvicorn.Server(uvicorn.Config(gateway.app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [at]}, daemon=True)
        thread.start()
        try:
            yield Served(address(at), gateway.inbox, registry)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def eventually(holds: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """What `holds` returns once it is true."""
    until = time.monotonic() + timeout_s
    while not (found := holds()):
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)
    return found


def events(text: str) -> list[Any]:
    """The objects of a stream; the last one is DONE as text."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]
