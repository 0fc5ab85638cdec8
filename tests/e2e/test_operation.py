"""The real servers, worker and flows: a round through faults, a promotion that is killed, and a clean end."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.services.process import Started, find, runs, started
from oel_core.artifacts import RunFolder
from oel_core.config import OelConfig, dump_config
from oel_core.lease import read_lease
from oel_core.processes import group_lives, is_alive
from oel_core.triggers import read_trigger
from tests.e2e.loop import short_config
from tests.fakes import tiny_model_folder

pytestmark = pytest.mark.services
SECRET = "hunter2-do-not-write-me-down"
PATIENCE_S = 600.0
"""Generous: the machine may be busy with other things. Nothing here is measured."""


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Services:
    """A run root with its services and a tiny preset."""

    def __init__(self, root: Path, preset: Path) -> None:
        self.root, self.preset, self.ports = root, preset, free_ports(2)
        self.set = ["--set", "project=tiny", "--set", f"preset_file={preset}"]
        self.run = RunFolder(root / "tiny")

    def oel(self, *arguments: object, code: int | None = 0) -> str:
        command = [sys.executable, "-m", "flows.cli", *map(str, arguments), "--root", str(self.root)]
        environment = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment | {"OEL_SECRET": SECRET}
        )
        assert code is None or done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def up(self) -> str:
        prefect, mlflow = self.ports
        return self.oel("up", "--prefect-port", prefect, "--mlflow-port", mlflow, "--pool", "oel-cpu")

    def trigger(self, id: str, *settings: str) -> str:
        """Starts a round and returns its flow run."""
        extra = [word for setting in settings for word in ("--set", setting)]
        return str(json.loads(self.oel("trigger", "next-round", *self.set, *extra, "--id", id, "--json"))["flow_run"])

    def outcome(self, id: str) -> str:
        found = read_trigger(self.run, id)
        return found.outcome if found is not None else "unknown"

    def service(self, name: str) -> Started:
        found = find(self.root, name)
        assert found is not None
        return found

    def states(self) -> dict[str, str]:
        rows = map(json.loads, self.oel("status", "--json", code=None).splitlines())
        return {row["name"]: row["state"] for row in rows if "name" in row}

    def flow_runs(self, *types: str) -> list[dict[str, Any]]:
        from flows.services.servers import post

        body = {"flow_runs": {"state": {"type": {"any_": list(types)}}}} if types else {}
        found = post(f"http://127.0.0.1:{self.ports[0]}/api/flow_runs/filter", body)
        assert isinstance(found, list)
        return found

    def logs(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in (self.root / ".oel" / "logs").glob("*.log"))


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, f"not within {patience_s:.0f} s: {what}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    config: OelConfig = short_config(tiny_model_folder(tmp_path_factory.mktemp("model")), rounds=1)
    preset = tmp_path_factory.mktemp("preset") / "short.yaml"
    preset.write_text(dump_config(config))
    found = Services(tmp_path_factory.mktemp("root"), preset)
    try:
        found.up()
        found.oel("deploy")
        yield found
    finally:
        found.oel("down", code=None)


def test_up_deploy_trigger_completes_a_round(services: Services) -> None:
    assert services.states() == {"prefect": "running", "mlflow": "running", "oel-cpu": "running"}
    said = services.oel("trigger", "next-round", *services.set, "--id", "first", "--wait")
    assert "round 1 refused: the gate refuses it: episodes, better" in said
    again = services.oel("trigger", "next-round", *services.set, "--id", "first", "--wait")
    assert "Completed" in again
    assert services.run.rounds() == [0, 1]
    assert (services.run.path / "round_01" / "gate" / "gate.json").exists()
    assert read_lease(services.run.path / "lease.json") is None


def test_a_round_survives_sigkill_of_worker_and_both_servers(services: Services) -> None:
    """The flow run is alone for a while, waits for its server, and completes."""
    id = services.trigger("through", "distill.steps=12")
    until(lambda: services.run.has(2, "accumulate"), "round 2 is in the middle")
    for name in ("oel-cpu", "prefect", "mlflow"):
        os.kill(services.service(name).process.pid, signal.SIGKILL)
    until(lambda: not any(runs(one) for one in started(services.root)), "all are dead")
    assert services.states() == {"prefect": "dead", "mlflow": "dead", "oel-cpu": "dead"}
    assert services.outcome("through") == "begun"
    said = services.up()
    assert said.count("restarting, it had died") == 3
    until(lambda: services.outcome("through") == "refused", "the round is over")
    until(lambda: not services.flow_runs("RUNNING", "PENDING"), "nothing says Running")
    assert {run["state_type"] for run in services.flow_runs() if run["id"] == id} == {"COMPLETED"}


def test_a_killed_round_is_reported_and_gone_on_with(services: Services) -> None:
    """SIGKILL of the trainer and everything else of the worker, in mid-round."""
    id = services.trigger("killed", "distill.steps=12")
    until(lambda: services.run.has(3, "accumulate"), "round 3 is in the middle")
    worker = services.service("oel-cpu")
    os.killpg(worker.process.pid, signal.SIGKILL)
    until(lambda: not group_lives(worker.process.pid), "the worker and its flow run are dead")
    left = read_lease(services.run.path / "lease.json")
    assert left is not None
    assert is_alive(left.holder) is False
    assert "marked as crashed" in services.up()
    assert not services.flow_runs("RUNNING", "PENDING", "CANCELLING")
    assert {run["state_type"] for run in services.flow_runs() if run["id"] == id} == {"CRASHED"}
    collected = (services.run.path / "round_03" / "collect" / "manifest.json").read_bytes()
    said = services.oel("trigger", "next-round", *services.set, "--set", "distill.steps=12", "--id", "killed", "--wait")
    assert "round 3 refused" in said
    assert (services.run.path / "round_03" / "collect" / "manifest.json").read_bytes() == collected
    assert services.run.rounds() == [0, 1, 2, 3]


def test_cancelling_ends_everything_within_ten_seconds(services: Services) -> None:
    from flows.services.servers import post

    number = max(services.run.rounds(), default=0) + 1
    id = services.trigger("cancelled", "distill.steps=60")
    until(lambda: services.run.has(number, "accumulate"), "the round is in the middle")
    held = read_lease(services.run.path / "lease.json")
    assert held is not None
    url = f"http://127.0.0.1:{services.ports[0]}/api/flow_runs/{id}/set_state"
    post(url, {"state": {"type": "CANCELLING"}})
    began = time.monotonic()
    until(lambda: is_alive(held.holder) is False, "the flow run's process is gone")
    assert time.monotonic() - began < 10 + 10, "10 s, and as much for a busy machine"
    assert read_lease(services.run.path / "lease.json") is None
    until(lambda: not services.flow_runs("CANCELLING"), "it is said to be cancelled")
    services.up()
    assert not services.flow_runs("RUNNING", "PENDING")
    assert {run["state_type"] for run in services.flow_runs() if run["id"] == id} == {"CANCELLED"}


def test_a_second_round_at_once_is_refused_or_queued(services: Services) -> None:
    from oel_core.artifacts import LEASE
    from oel_core.lease import held

    rounds = services.run.rounds()
    with held(services.run.path / LEASE, "another worker"):
        said = services.oel("trigger", "next-round", *services.set, "--id", "second", "--wait", code=1)
        assert "in use by process" in said
        services.trigger("queued", "when_busy=queue", "distill.steps=60")
        time.sleep(5)
        assert services.outcome("queued") == "unknown"
    until(lambda: services.outcome("queued") == "refused", "the queued round went on with the cancelled one")
    assert services.run.rounds() == rounds


def test_promote_and_roll_back_by_hand_show_in_the_next_round(services: Services) -> None:
    services.oel("promote", "tiny", "--round", 2, "--force", "--reason", "for the test")
    services.oel("trigger", "next-round", *services.set, "--id", "from-champion", "--wait")
    assert json.loads((services.run.path / "round_05" / "start.json").read_text())["parent"] == 2
    services.oel("rollback", "tiny")
    moves = [json.loads(line)["action"] for line in services.oel("history", "tiny", "--json").splitlines()]
    assert moves == ["promote", "rollback"]


def test_down_ends_all_and_no_secret_was_written(services: Services) -> None:
    groups = [group for one in started(services.root) for group in one.groups]
    services.oel("down")
    assert not any(group_lives(group) for group in groups)
    assert started(services.root) == []
    for path in services.root.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
