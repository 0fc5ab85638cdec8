"""The managed server, with a fake `vllm serve`; the real one is in `test_vllm_real`."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from oel_core.config.run import ModelConfig
from oel_core.errors import PolicyError
from oel_core.policies.openai import managed_server
from oel_core.policies.openai.managed_server import HOST, ServerProcess, flags, server_for, stop_servers
from oel_core.policies.vllm.settings import engine_arguments
from oel_core.runs.guardian import free_port
from tests.fakes import tiny_model_folder

SERVE = (
    "import http.server as h; h.ThreadingHTTPServer(('127.0.0.1', {port}), h.SimpleHTTPRequestHandler).serve_forever()"
)


def test_a_server_is_waited_for_and_ended(tmp_path: Path) -> None:
    port = free_port()
    server = ServerProcess([sys.executable, "-c", SERVE.format(port=port)], {}, tmp_path / "log")
    server.wait_until(f"http://{HOST}:{port}/", 60)
    assert server.alive
    server.close()
    assert not server.alive
    server.close()
    assert "GET / HTTP" in (tmp_path / "log").read_text()


def test_a_server_that_ends_at_its_start_says_its_last_words(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "import sys; print('no such model'); sys.exit(4)"]
    server = ServerProcess(words, {}, tmp_path / "log")
    with pytest.raises(PolicyError, match=r"(?s)ended with status 4.*no such model"):
        server.wait_until(f"http://{HOST}:{free_port()}/", 60)


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    server = ServerProcess([sys.executable, "-c", "import time; time.sleep(600)"], {}, tmp_path / "log")
    with pytest.raises(PolicyError, match=r"start_timeout_s = 0\.5 s"):
        server.wait_until(f"http://{HOST}:{free_port()}/", 0.5)
    server.close()


def test_settings_become_flags() -> None:
    config = ModelConfig(vllm={"prefix_caching": False, "cache_gib": 0.5})  # type: ignore[arg-type]
    words = flags(engine_arguments("/models/base", 16, 512, config, cpu=True))
    assert "/models/base" not in words
    assert "--no-enable-prefix-caching" in words
    assert "--enable-lora" in words
    for name, value in [("--max-model-len", "512"), ("--kv-cache-memory-bytes", str(2**29)), ("--max-lora-rank", "16")]:
        assert words[words.index(name) + 1] == value


@pytest.mark.parametrize("known", [True, False])
def test_the_cpu_builds_own_command_is_gone_round(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    def version(name: str) -> str:
        if not known:
            raise managed_server.PackageNotFoundError(name)
        return "0.32.0"

    monkeypatch.setattr(managed_server, "version", version)
    command = managed_server.serve_command("/models/base")
    assert command[0] == sys.executable
    assert command[2:] == (
        ["vllm.entrypoints.cli.main", "serve", "/models/base"]
        if known
        else ["vllm.entrypoints.openai.api_server", "--model", "/models/base"]
    )


def test_without_vllm_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oel_core.policies.vllm.policy.find_spec", lambda name: None)
    path = str(tiny_model_folder(tmp_path))
    with pytest.raises(PolicyError, match="vLLM is not installed: pip install"):
        server_for(path, ModelConfig(path=path, backend="openai", openai={"managed": True}))  # type: ignore[arg-type]
    assert managed_server._running == {}


class Started(ServerProcess):
    """Is ready and runs nothing."""

    commands: list[Sequence[str]]
    """Of all that were started."""
    alive = True

    def __init__(self, command: Sequence[str], *rest: object) -> None:
        self.commands.append(command)

    def wait_until(self, url: str, timeout_s: float) -> None:
        pass

    def close(self) -> None:
        self.alive = False  # type: ignore[misc]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Sequence[str]]]:
    """The command lines of servers that were started."""
    monkeypatch.setattr(Started, "commands", [], raising=False)
    monkeypatch.setattr(managed_server, "ServerProcess", Started)
    monkeypatch.setattr(managed_server.ManagedServer, "answers", lambda server: server.process.alive)
    monkeypatch.setattr(managed_server, "check_installed", lambda: None)
    monkeypatch.setattr(managed_server, "runs_on_cpu", lambda config: True)
    yield Started.commands
    stop_servers()


def managed(path: str, **options: Any) -> ModelConfig:
    return ModelConfig(path=path, device="cpu", backend="openai", openai={"managed": True, **options})  # type: ignore[arg-type]


def test_a_parser_for_tool_calls_is_given_to_the_server(tmp_path: Path, started: list[Sequence[str]]) -> None:
    path = str(tiny_model_folder(tmp_path))
    servers = [server_for(path, managed(path, tool_call_parser=parser)) for parser in (None, "hermes", "hermes")]
    without, hermes = started
    assert not {"--tool-call-parser", "--enable-auto-tool-choice"} & {*without}
    assert hermes[hermes.index("--tool-call-parser") + 1] == "hermes"
    assert "--enable-auto-tool-choice" in hermes
    assert servers[1] is servers[2]
    assert not servers[0].process.alive, "one server at a time"
    stop_servers()
    assert not servers[1].process.alive
    assert managed_server._running == {}


@pytest.mark.parametrize("name", ["", " ", "--api-key", "hermes --host 0.0.0.0", "../parser.py", "a/b", "a\nb"])
def test_what_is_no_name_of_a_parser_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="tool_call_parser"):
        managed("m", tool_call_parser=name)


def test_a_parser_without_a_managed_server_is_refused() -> None:
    openai = {"base_url": "http://127.0.0.1:8000/v1", "tool_call_parser": "hermes"}
    with pytest.raises(ValidationError, match="start your own server with --enable-auto-tool-choice"):
        ModelConfig(backend="openai", openai=openai)  # type: ignore[arg-type]
