"""The gateway with a managed server, for which a fake takes the place of vLLM; `test_upstream_real` has vLLM itself."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from oel_core.policies.openai import managed_server
from tests.fakes import tiny_model_folder
from tests.runs.test_guardian import lives
from tests.serving import fake_serve
from tests.serving.fake_serve import NOTES
from tests.serving.running import PROJECT, Served, adapter, config_for, eventually, serving

TOGETHER = 8


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "servers"
    folder.mkdir()
    monkeypatch.setenv(NOTES, str(folder))
    monkeypatch.setattr(managed_server, "check_installed", lambda: None)
    monkeypatch.setattr(managed_server, "runs_on_cpu", lambda config: True)
    monkeypatch.setattr(managed_server, "serve_command", lambda base: [sys.executable, "-m", fake_serve.__name__])
    return folder


def servers(notes: Path) -> list[int]:
    """Processes of the servers that were started, the newest last."""
    return [int(path.name) for path in sorted(notes.iterdir(), key=lambda path: path.stat().st_mtime_ns)]


@pytest.fixture
def served(tmp_path: Path, notes: Path) -> Iterator[Served]:
    path = str(tiny_model_folder(tmp_path))
    model: dict[str, Any] = {"path": path, "backend": "openai", "lora": {"r": 4}, "openai": {"managed": True}}
    with serving(config_for(tmp_path / "inbox", model), path) as gateway:
        yield gateway
    assert not any(map(lives, servers(notes)))


def promote(served: Served, folder: Path, number: int) -> str:
    """Makes another adapter the champion, and waits until it is served. Returns its version."""
    path = folder / f"round{number}"
    adapter(path, folder / "tiny", b"weights %d" % number)
    served.registry[0] = str(path)
    version = f"{PROJECT}-{path}"
    eventually(lambda: served.http.get("/healthz").json()["version"] == version)
    return version


def test_one_server_answers_for_every_champion(served: Served, tmp_path: Path, notes: Path) -> None:
    said = [served.ask("hello").choices[0].message.content]
    for number in (1, 2):
        version = promote(served, tmp_path, number)
        answers = [served.ask("hello") for _ in range(3)]
        assert {answer.system_fingerprint for answer in answers} == {version}
        said.append(answers[-1].choices[0].message.content)
    assert len(set(said)) == 3, "each has a name of its own at the server"
    assert len(servers(notes)) == 1


def together(served: Served, text: str) -> list[Any]:
    """Answers of requests that need a connection each."""
    with ThreadPoolExecutor(TOGETHER) as pool:
        return list(pool.map(lambda _: served.ask(text, timeout=600), range(TOGETHER)))


@pytest.mark.parametrize("stream", [False, True])
def test_a_killed_server_is_started_again(served: Served, tmp_path: Path, notes: Path, stream: bool) -> None:
    """Requests are under way then, and none of the connections that it had kept is good any more."""
    promote(served, tmp_path, 1)
    together(served, "hello")
    (first,) = servers(notes)
    os.kill(first, signal.SIGSTOP)  # an ending process may take seconds to close its connections
    ending = threading.Timer(1, os.kill, (first, signal.SIGKILL))
    ending.start()
    assert all(
        answer.choices[0].message.content.endswith(": hello again") for answer in together(served, "hello again")
    )
    ending.join()
    answer = served.ask("hello again", stream=stream, timeout=600)
    text = "".join(part.choices[0].delta.content or "" for part in answer) if stream else None
    assert (text or answer.choices[0].message.content).endswith(": hello again")
    assert len(servers(notes)) == 2
    served.ask("and again")
    assert len(servers(notes)) == 2
    assert served.metric('oel_calls_total{result="recorded"}') == 2 * TOGETHER + 2
