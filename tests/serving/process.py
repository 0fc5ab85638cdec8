"""`oel serve` and a model's server as processes that tests kill."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

START_S = 600.0


@dataclass
class ServeProcess:
    """One that runs."""

    process: "subprocess.Popen[str]"
    url: str
    token: str
    said: list[str]

    def client(self, timeout_s: float = 60.0) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key=self.token, max_retries=0, timeout=timeout_s)

    def health(self) -> dict[str, Any]:
        """What `/healthz` says."""
        return dict(httpx.get(f"{self.url.removesuffix('/v1')}/healthz", timeout=60).json())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_S)


def serve(root: Path, project: str, *options: str) -> ServeProcess:
    """Starts the command and waits until it says its address."""
    command = [sys.executable, "-m", "flows.cli.app", "serve", project, "--root", str(root), *options]
    process = start(command, root)
    return wait_until_served(process, root, root / project / ".serve-token")


def start(command: Sequence[str], root: Path) -> "subprocess.Popen[str]":
    """The command with its standard output to be read and its errors in `serve.log`."""
    with (root / "serve.log").open("ab") as log:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(_paths())}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=root, env=environment)


def wait_until_served(process: "subprocess.Popen[str]", root: Path, token: Path) -> ServeProcess:
    """Reads what it says until it has said all."""
    assert process.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    stdout = process.stdout
    threading.Thread(target=lambda: [lines.put(line) for line in stdout], daemon=True).start()
    said: list[str] = []
    until = time.monotonic() + START_S
    while not any(line.startswith("Inbox") for line in said):
        assert process.poll() is None, (said, (root / "serve.log").read_text()[-3000:])
        assert time.monotonic() < until, said
        with contextlib.suppress(queue.Empty):
            said.append(lines.get(timeout=1))
    url = next(line.split()[1] for line in said if line.startswith("Address"))
    return ServeProcess(process, url, token.read_text().strip(), said)


@contextlib.contextmanager
def model_server(port: int, delay_s: float = 0.0) -> "Iterator[subprocess.Popen[bytes]]":
    """`tests.serving.model_server` on a port of loopback."""
    process = start_model_server(port, delay_s)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def start_model_server(port: int, delay_s: float) -> "subprocess.Popen[bytes]":
    """Returns when it answers."""
    command = [sys.executable, "-m", "tests.serving.model_server", str(port), str(delay_s)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(_paths())})
    until = time.monotonic() + START_S
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=5).is_success:
                return process
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)


def _paths() -> Sequence[str]:
    return [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
