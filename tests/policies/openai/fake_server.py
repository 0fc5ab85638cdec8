"""A small HTTP server that behaves like a model server, well or badly, on loopback."""

import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from oel_core.config.run import ModelConfig
from oel_core.config.sampling import Sampling
from oel_core.policies.base import Completion, Request
from oel_core.policies.text.chat import Chat
from oel_core.types import Message
from tests.fakes import byte_tokenizer

MODEL = "tiny"
LENGTH = 4096
Reply = tuple[int, Any, dict[str, str]]
"""Status, JSON (or bytes as they are), headers."""


@dataclass
class FakeServer:
    """What it serves, how it misbehaves, and what it was asked."""

    gives_ids: bool = True
    takes_ids: bool = True
    strict: bool = False
    """Refuses fields beyond the OpenAI API, as hosted endpoints do."""
    chat: bool = True
    template_prefix: str = ""
    """Put before every chat prompt, as a server with another template would."""
    key: str | None = None
    text: str | None = None
    """Answered instead of what the model says."""
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": MODEL, "max_model_len": LENGTH}])
    adapters: dict[str, str] | None = None
    """Name to folder of what was loaded at run time; None: it loads none."""
    trouble: Callable[[int, dict[str, Any]], Reply | None] = lambda number, body: None
    """Given the number of a generation request (from 0, the probe's not counted) and its body: what goes wrong."""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    at_once: int = 0
    """Most requests that were being answered at the same time."""
    closing: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    _count: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def generations(self) -> list[dict[str, Any]]:
        """Bodies of the requests after the probe."""
        return [body for path, body in self.asked if "seed" in body]

    def answer(self, path: str, body: dict[str, Any], key: str | None) -> Reply:
        if self.key is not None and key != f"Bearer {self.key}":
            return 401, {"error": {"message": "wrong key"}}, {}
        if path == "/v1/models":
            return 200, {"object": "list", "data": self.models}, {}
        if not path.startswith("/v1/"):
            return 404, {"detail": "Not Found"}, {}
        with self._lock:
            self.asked.append((path, body))
            self._now += 1
            self.at_once = max(self.at_once, self._now)
            number = self._count
            self._count += "seed" in body
        try:
            wrong = self.trouble(number, body) if "seed" in body else None
            return wrong or self._generate(path, body)
        finally:
            with self._lock:
                self._now -= 1

    def _generate(self, path: str, body: dict[str, Any]) -> Reply:
        extra = body.keys() - {"model", "messages", "prompt", "temperature", "top_p", "max_tokens", "seed"}
        if self.strict and extra:
            return 400, {"error": {"message": f"unknown fields: {sorted(extra)}"}}, {}
        if path.endswith("_lora_adapter") and self.adapters is not None:
            return self._change_adapters(path, body)
        if body.get("model") not in [*(entry["id"] for entry in self.models), *(self.adapters or ())]:
            return 404, {"error": {"message": f"The model `{body.get('model')}` does not exist."}}, {}
        if path == "/v1/completions" and self.takes_ids:
            return 200, self._completion(body["prompt"], body), {}
        if path == "/v1/chat/completions" and self.chat:
            messages = tuple(Message(**message) for message in body["messages"])
            prompt = byte_tokenizer()(self.template_prefix)["input_ids"] + PLAYER.chat.prompt_ids(messages)
            return 200, self._completion(prompt, body, chat=True), {}
        return 404, {"detail": "Not Found"}, {}

    def _change_adapters(self, path: str, body: dict[str, Any]) -> Reply:
        assert self.adapters is not None
        name = body["lora_name"]
        if path == "/v1/load_lora_adapter":
            if name in self.adapters:
                return 400, {"error": {"message": f"The lora adapter '{name}' has already been loaded."}}, {}
            self.adapters[name] = body["lora_path"]
        elif self.adapters.pop(name, None) is None:
            return 404, {"error": {"message": f"The lora adapter '{name}' cannot be found."}}, {}
        return 200, b"Success", {}

    def respond(self, model: str, prompt: list[int], body: dict[str, Any]) -> list[int]:
        """What the model says."""
        return PLAYER.respond(prompt, body.get("seed", 0), body["max_tokens"])

    def _completion(self, prompt: list[int], body: dict[str, Any], *, chat: bool = False) -> dict[str, Any]:
        ids = self.respond(body["model"], prompt, body)
        text = byte_tokenizer().decode(ids, skip_special_tokens=True) if self.text is None else self.text
        stopped = ids[-1] in PLAYER.chat.stops
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop" if stopped else "length"}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        answer: dict[str, Any] = {"id": "x", "model": body["model"], "choices": [choice]}
        if self.gives_ids and body.get("return_token_ids"):
            choice["token_ids"] = ids
            (answer if chat else choice)["prompt_token_ids"] = prompt
        return answer


class _Player:
    """Stands for the model: token ids that prompt and seed decide."""

    chat = Chat.build(byte_tokenizer(), frozenset({0, 2}), LENGTH, ModelConfig(max_length=LENGTH), MODEL)

    def respond(self, prompt: Sequence[int], seed: int, max_tokens: int) -> list[int]:
        draw = random.Random(f"{list(prompt)} {seed}")
        ids = [draw.randrange(60, 90) for _ in range(draw.randrange(2, 10))]
        return [*ids, 2][:max_tokens]

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """What a policy behind the server must give."""
        prompts = [self.chat.prompt_ids(request.messages) for request in requests]
        return [
            self.chat.completion(prompt, self.respond(prompt, request.seed, sampling.max_tokens))
            for prompt, request in zip(prompts, requests, strict=True)
        ]


PLAYER = _Player()


def ask(text: str, seed: int = 0) -> Request:
    return Request((Message(role="system", content="Play."), Message(role="user", content=text)), seed)


@contextmanager
def running(server: FakeServer) -> Iterator[FakeServer]:
    """The server on a free port of loopback until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply({})

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def _reply(self, body: dict[str, Any]) -> None:
            status, answer, headers = server.answer(self.path, body, self.headers.get("authorization"))
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            if status == 0 or server.closing.is_set():  # no answer, on a connection that was kept alive either
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:  # clients that hang up are what is tested
            pass

    http = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    try:
        yield server
    finally:
        server.closing.set()
        http.shutdown()
        http.server_close()


def hang(server: FakeServer) -> Reply:
    """Answers only when the server closes."""
    server.closing.wait(30)
    return 0, b"", {}
