"""Thumbs that people give in MLflow to what the gateway answered reach the episodes that rounds learn from."""

import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from oel_core.imports.records import Call
from oel_core.policies.openai.managed_server import free_port
from oel_core.projects.deployment import deployed
from oel_core.runs.folder import open_run
from oel_core.serving.recording.feedback import ClientFeedback
from oel_core.serving.recording.traces import Traces
from oel_core.types import Feedback, Message
from tasks.tracking.client import tracker_of
from tasks.tracking.forgetting import forget_in_mlflow
from tasks.tracking.settings import TrackingSettings
from tasks.tracking.traces import RESPONSE, MlflowTraces
from tests.serving.running import Player, config_for, episodes_in, eventually, playing, serving


class View:
    """A viewer that fails when it is told to."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.given: list[ClientFeedback] = []
        self.fails = False
        self.looks = 0

    def show(self, call: Call) -> None:
        if self.fails:
            raise ConnectionError("away")
        self.shown.append(call.messages[-1].content)

    def feedback(self) -> Iterable[ClientFeedback]:
        self.looks += 1
        return list(self.given)


@pytest.fixture
def player() -> Iterator[Player]:
    with playing(Player()) as player:
        yield player


def test_answers_are_shown_masked_and_what_is_said_there_counts_once(tmp_path: Path, player: Player) -> None:
    view = View()
    config = config_for(tmp_path / "inbox", traces_s=0.05, session_idle_s=0.1)
    with serving(config, viewer=view) as served:
        answer = served.ask("I am ann@example.org")
        eventually(lambda: view.shown)
        assert "<email-" in view.shown[0]
        said = Feedback(source="human", thumbs=True, comment="good")
        view.given = [ClientFeedback(response=answer.id, user="kim", source_id="a-1", feedback=said)]
        eventually(lambda: [one for one in deployed(tmp_path / "inbox") if one.reward == 1.0])
        looks = view.looks
        eventually(lambda: view.looks > looks + 2)
        counts = [
            served.metric(f'oel_feedback_total{{result="{result}",version="shop-one"}}')
            for result in ("recorded", "late")
        ]
        assert sum(counts) == 1
    (episode,) = deployed(tmp_path / "inbox")
    assert [one.comment for one in episode.turns[0].given] == ["good"]


def test_a_viewer_that_is_away_keeps_nothing_back(tmp_path: Path, player: Player) -> None:
    view = View()
    view.fails = True
    with serving(config_for(tmp_path / "inbox", traces_s=0.05, session_idle_s=0.1), viewer=view) as served:
        assert served.ask("hello").choices[0].message.content == "one: hello"
        eventually(lambda: episodes_in(tmp_path / "inbox"))
        eventually(lambda: view.looks > 2)
        view.fails = False
        served.ask("again")
        eventually(lambda: view.shown == ["again"])


def test_too_many_answers_are_not_shown_and_nobody_waits() -> None:
    view = View()
    traces = Traces(view, 600.0, lambda given: None)
    call = Call(id="c", messages=(Message(role="user", content="q"),), response=Message(role="assistant", content="a"))
    done = threading.Thread(target=lambda: [traces.show(call) for _ in range(3000)])
    done.start()
    done.join(60)
    assert not done.is_alive()
    with traces.running():
        eventually(lambda: len(view.shown) == 1000)


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """MLflow's own server; its address."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--host", "127.0.0.1", "--workers", "1"]
    places = ["--backend-store-uri", f"sqlite:///{folder}/db.sqlite", "--artifacts-destination", str(folder / "files")]
    process = subprocess.Popen([*command, *places], cwd=folder, start_new_session=True)
    try:
        eventually(lambda: _is_up(process, f"http://127.0.0.1:{port}/health"), timeout_s=600)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _is_up(process: "subprocess.Popen[bytes]", url: str) -> bool:
    assert process.poll() is None
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


@pytest.mark.services
def test_a_thumb_in_mlflow_reaches_the_episode_and_forgetting_reaches_mlflow(tmp_path: Path, player: Player) -> None:
    with mlflow_server(tmp_path) as uri:
        settings = TrackingSettings(tracking_uri=uri, artifact_location=None)
        run = open_run(tmp_path / "runs", "shop")
        tracker = tracker_of(settings, run)
        tracker.run_id("loop")
        view = MlflowTraces(tracker, "shop", 1.0)
        config = config_for(tmp_path / "inbox", traces_s=0.5, session_idle_s=1.0)
        with serving(config, viewer=view) as served:
            rated = served.ask("hello ann@example.org", user="ann", extra_headers={"X-OEL-Session": "s-1"})
            served.ask("bye", user="bob")

            def traces() -> list[Any]:
                found = tracker.client.search_traces([tracker.experiment], max_results=10)
                return list(found) if len(found) == 2 else []

            trace = next(one for one in eventually(traces, 120) if one.info.tags[RESPONSE] == rated.id)
            assert "ann@example.org" not in trace.to_json()
            _assess(uri, trace.info.trace_id, {"feedback": {"value": False}, "rationale": "rude"})
            _assess(uri, trace.info.trace_id, {"expectation": {"value": "Hello!"}}, name="answer")
            eventually(lambda: [one for one in deployed(tmp_path / "inbox") if len(one.turns[0].given) == 2], 120)
        (episode,) = (one for one in deployed(tmp_path / "inbox") if one.turns[0].given)
        given = {one.name: one for one in episode.turns[0].given}
        assert (given["quality"].source, given["quality"].thumbs, given["quality"].comment) == ("human", False, "rude")
        assert given["answer"].expected == "Hello!"
        ids = {episode.user}
        assert forget_in_mlflow(settings, run, {}, ids, None, remove=False).traces == 1
        assert forget_in_mlflow(settings, run, {}, ids, None, remove=True).traces == 1
        (left,) = tracker.client.search_traces([tracker.experiment], max_results=10)
        assert left.info.tags[RESPONSE] != rated.id


def _assess(uri: str, trace: str, said: dict[str, Any], name: str = "quality") -> None:
    """What MLflow's UI sends when somebody rates a trace."""
    source = {"source_type": "HUMAN", "source_id": "kim"}
    body = {"assessment": {"assessment_name": name, "trace_id": trace, "source": source, **said}}
    httpx.post(f"{uri}/api/3.0/mlflow/traces/{trace}/assessments", json=body, timeout=60).raise_for_status()
