"""`vllm serve` as a child process: on loopback, with its own API key, terminated with the run."""

import atexit
import contextlib
import logging
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import httpx

from oel_core.config.run import ModelConfig
from oel_core.config.serving import OpenAIConfig
from oel_core.errors import PolicyError
from oel_core.models.checkpoints import is_adapter, model_digest, resolve_model, stamp
from oel_core.policies.text.chat import Chat, base_of
from oel_core.policies.vllm.policy import check_installed, runs_on_cpu
from oel_core.policies.vllm.settings import ENVIRONMENT, QUIET, adapter_rank, engine_arguments
from oel_core.runs.guardian import free_port, guarded

logger = logging.getLogger(__name__)
HOST = "127.0.0.1"
GRACE_S = 10.0
"""Seconds that the server has to end by itself."""
_TAIL = 12


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """Settings as options of `vllm serve`; `model`, its positional argument, is left out."""
    words: list[str] = []
    for name, value in arguments.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif name != "model":
            words += [f"--{option}", str(value)]
    return words


def tool_arguments(parser: str | None) -> dict[str, Any]:
    """The settings of `vllm serve` by which the model itself may choose tools; none without a parser for its calls."""
    return {} if parser is None else {"enable_auto_tool_choice": True, "tool_call_parser": parser}


def serve_command(base: str) -> list[str]:
    """`vllm serve BASE` as a module: the command asks for the version of a package `vllm`, which the CPU build does not
    have."""
    try:
        version("vllm")
    except PackageNotFoundError:
        return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", base]
    return [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", base]


class ServerProcess:
    """A server process under the watchdog, with its output in a file."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                guarded(command, GRACE_S),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,
            )
        atexit.register(self.close)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def require(self) -> None:
        """Raises PolicyError with the last lines of the log if the server has exited."""
        if not self.alive:
            raise PolicyError(f"the server has ended with status {self._process.returncode}. {self._said()}")

    def wait_until(self, url: str, timeout_s: float) -> None:
        """Waits until `url` returns 200. Raises PolicyError with the last lines of the log on a time-out."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            self.require()
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(url, timeout=5, trust_env=False).is_success:
                    return
            time.sleep(0.2)
        raise PolicyError(
            f"the server did not answer within model.vllm.start_timeout_s = {timeout_s:g} s. {self._said()}"
        )

    def _said(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return f"The end of {self.log}:\n" + "\n".join(lines[-_TAIL:])

    def close(self) -> None:
        """Terminates the server and its child processes; further calls do nothing."""
        atexit.unregister(self.close)
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(timeout=GRACE_S + 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class ManagedServer:
    """A running `vllm serve` of a base model. Adapters are loaded under the digest of their checkpoint."""

    def __init__(self, process: ServerProcess, address: str, key: str, settings: OpenAIConfig, base_name: str) -> None:
        self.process, self.address, self.key = process, address, key
        self._settings, self._base_name = settings, base_name
        self._adapters: set[str] = set()

    @classmethod
    def start(cls, base: str, arguments: Mapping[str, Any], config: ModelConfig) -> Self:
        """Starts the server and waits until it is ready. PolicyError has the last lines of its log if it fails."""
        port, key, name = free_port(), secrets.token_urlsafe(24), f"oel-{model_digest(base)[:12]}"
        descriptor, log = tempfile.mkstemp(prefix="oel-vllm-serve-", suffix=".log")
        os.close(descriptor)
        command = [
            *serve_command(base),
            *flags(arguments),
            "--host",
            HOST,
            "--port",
            str(port),
            "--served-model-name",
            name,
        ]
        command += ["--disable-log-stats", "--disable-uvicorn-access-log"]  # a line a request would fill the disk
        environment = {**QUIET, **ENVIRONMENT, "VLLM_API_KEY": key, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
        process = ServerProcess(command, environment, Path(log))
        logger.info("starting vllm serve on port %d; its log: %s", port, log)
        try:
            process.wait_until(f"http://{HOST}:{port}/health", config.vllm.start_timeout_s)
        except BaseException:
            process.close()
            raise
        return cls(process, f"http://{HOST}:{port}/v1", key, config.openai, name)

    def answers(self) -> bool:
        """Whether it takes requests: its processes may need seconds to end after it has stopped to, and a killed one's
        socket takes connections for a moment longer."""
        try:
            url = f"{self.address.removesuffix('/v1')}/health"
            return httpx.get(url, timeout=5, trust_env=False).is_success
        except httpx.TimeoutException:  # it has too much to do
            return True
        except httpx.TransportError:
            return False

    def settings(self, path: str) -> OpenAIConfig:
        """The model settings for requests to the checkpoint, which must be the base or an adapter on it; loads an
        adapter first."""
        source = resolve_model(path)
        name = self._base_name
        if isinstance(source, Path) and is_adapter(source):
            name = f"oel-{model_digest(path)}"
            self._load(name, source)
        return self._settings.model_copy(update={"model": name, "base_url": self.address})

    def _load(self, name: str, folder: Path) -> None:
        if name in self._adapters:
            return
        body = {"lora_name": name, "lora_path": str(folder.resolve())}
        headers = {"Authorization": f"Bearer {self.key}"}
        try:
            answer = httpx.post(
                f"{self.address}/load_lora_adapter", json=body, headers=headers, timeout=120, trust_env=False
            )
        except httpx.TransportError as error:
            raise PolicyError(f"the server at {self.address} does not load {folder}: {error}") from error
        if not answer.is_success and "already" not in answer.text:
            raise PolicyError(f"the server at {self.address} refuses the adapter {folder}: {answer.text[:500]}")
        self._adapters.add(name)

    def close(self) -> None:
        """Terminates the server."""
        self.process.close()


_lock = threading.Lock()
_running: dict[tuple[object, ...], ManagedServer] = {}


def server_for(path: str, config: ModelConfig) -> ManagedServer:
    """The running server of the checkpoint's base, or a new one after terminating the old one.

    Raises:
        PolicyError: vLLM is not installed, or the server does not start.
        ConfigError, ArtifactError: as `VllmPolicy.load`.
    """
    check_installed()
    base = base_of(path)
    length = Chat.load(path, config).max_length
    engine = engine_arguments(base, adapter_rank(path, config), length, config, cpu=runs_on_cpu(config))
    arguments = engine | tool_arguments(config.openai.tool_call_parser)
    key = (*stamp(base), tuple(arguments.items()))
    with _lock:
        held = _running.get(key)
        if held is None or not (held.process.alive and held.answers()):
            _close_all()
            held = _running[key] = ManagedServer.start(base, arguments, config)
        return held


def stop_servers() -> None:
    """Terminates the servers that `server_for` has started."""
    with _lock:
        _close_all()


def _close_all() -> None:
    for server in _running.values():
        server.close()
    _running.clear()
