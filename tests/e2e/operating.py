"""The real servers, worker and commands on a temporary root, from a copy of the source whose quickstart is tiny.

The copy lets every command of the documents run as it is written: only what is trained is replaced.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flows.services.process import Started, find, log_path, runs, started
from flows.services.servers import DIRECT, UpSettings, write_settings
from oel_core.config.run import OelConfig, dump_config
from oel_core.projects.triggers import read_trigger
from oel_core.runs.folder import LEASE, RunFolder
from oel_core.runs.lease import Lease, read_lease
from oel_core.runs.processes import is_alive
from tests.e2e.sweep import swept

SOURCE = Path(__file__).parent.parent.parent
PACKAGES = ("oel_core", "tasks", "flows", "deployments")
SECRET = "hunter2-do-not-write-me-down"
PATIENCE_S = 300.0
"""Generous: the machine may be busy with other things. Nothing here is measured."""
BUSY = 503
STEPS = 12
"""Of distillation, in a round that something happens to: loading the trainer takes seconds before the first one."""
NO_WATCH = "distill.stability.policy=off"
"""For a round of many steps: a random model runs away, and the watch on its training would end the round."""
OPEN = ("SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "PAUSED")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Returns when the condition holds."""
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, f"not within {patience_s:.0f} s: {what}"
        time.sleep(0.1)


def copy_source(home: Path, quickstart: OelConfig) -> None:
    """The packages under `home`, with another quickstart preset, and the command `oel` in `home`/bin."""
    for package in PACKAGES:
        shutil.copytree(SOURCE / package, home / package)
    shutil.copytree(SOURCE / "examples" / "logs", home / "examples" / "logs")
    shutil.copy(SOURCE / "mlflow.yaml", home)
    (home / "oel_core" / "config" / "presets" / "quickstart.yaml").write_text(dump_config(quickstart))
    command = home / "bin" / "oel"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m flows.cli.app "$@"\n')
    command.chmod(0o755)


class Services:
    """Everything under one folder: the copy of the source, and the run root `runs`."""

    def __init__(self, home: Path, *, postgres: str | None = None) -> None:
        self.home, self.root = home, home / "runs"
        self.prefect, self.mlflow = free_ports(2)
        self.disk_can_fill = False
        self._postgres = postgres

    def remember_ports(self) -> None:
        """So that `oel up`, as the documents write it, does not need the usual ports to be free."""
        ports = {"prefect_port": self.prefect, "mlflow_port": self.mlflow}
        write_settings(self.root, UpSettings(**ports, pools=("oel-cpu",), postgres=self._postgres is not None))

    def environment(self) -> dict[str, str]:
        """As a user's shell would have it; with a secret in it, which must not turn up anywhere."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "MLFLOW", "OEL_"))}
        own |= {"PYTHONPATH": str(self.home), "OEL_SECRET": SECRET, "OMP_NUM_THREADS": "1"}
        own["PATH"] = os.pathsep.join([str(self.home / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        return own | ({"OEL_POSTGRES": self._postgres} if self._postgres else {})

    def oel(self, *arguments: object, code: int | None = 0) -> str:
        """The command with its exit code checked; returns what it wrote to its standard output."""
        command = [sys.executable, "-m", "flows.cli.app", *map(str, arguments)]
        options: dict[str, Any] = {"cwd": self.home, "env": self.environment(), "timeout": 2 * PATIENCE_S}
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
        assert code is None or done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def up(self) -> str:
        return self.oel("up")

    def well(self) -> bool:
        """Whether all three processes run."""
        found = {one.name for one in started(self.root) if runs(one)}
        return found == {"prefect", "mlflow", "oel-cpu"}

    def service(self, name: str) -> Started:
        found = find(self.root, name)
        assert found is not None
        return found

    def states(self) -> dict[str, str]:
        rows = map(json.loads, self.oel("status", "--json", code=None).splitlines())
        return {row["name"]: row["state"] for row in rows if "name" in row}

    def api(self, path: str, body: object = None, method: str | None = None) -> Any:
        """What the Prefect server answers; a POST when there is a body. A busy one is asked again, as clients do."""
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.prefect}/api/{path}"
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        for pause_s in (0.5, 1.0, 2.0, 4.0, 0.0):
            try:
                with DIRECT.open(request, timeout=60) as answer:
                    text = answer.read()
                return json.loads(text) if text else None
            except urllib.error.HTTPError as error:
                if error.code != BUSY or not pause_s:
                    raise
            time.sleep(pause_s)

    def start(self, deployment: str, parameters: dict[str, Any], key: str | None = None) -> str:
        """Starts a flow run as the UI does, and returns its id."""
        found = self.api(f"deployments/name/{deployment}/{deployment}")
        body = {"parameters": parameters, "idempotency_key": key, "state": {"type": "SCHEDULED"}}
        return str(self.api(f"deployments/{found['id']}/create_flow_run", body)["id"])

    def state(self, flow_run: str) -> dict[str, Any]:
        """The state of a flow run; of none while the server does not answer."""
        try:
            return dict(self.api(f"flow_runs/{flow_run}")["state"])
        except (urllib.error.URLError, OSError):
            return {"type": "UNKNOWN", "message": ""}

    def ended(self, flow_run: str) -> dict[str, Any]:
        """The state in which a flow run ends."""
        until(
            lambda: self.state(flow_run)["type"] not in (*OPEN, "UNKNOWN"), f"flow run {flow_run} ends\n{self.logs()}"
        )
        return self.state(flow_run)

    def open_runs(self) -> list[dict[str, Any]]:
        """Flow runs, sub-flows too, that are said not to be over."""
        body = {"flow_runs": {"state": {"type": {"any_": [name for name in OPEN if name != "SCHEDULED"]}}}}
        return list(self.api("flow_runs/filter", body))

    def project(self, name: str) -> "Project":
        return Project(self, name)

    def logs(self) -> str:
        paths = log_path(self.root, "any").parent.glob("*.log")
        return "\n".join(f"== {path}\n{path.read_text(errors='replace')[-3000:]}" for path in paths)


class Project:
    """A run folder whose rounds are triggered."""

    def __init__(self, services: Services, name: str) -> None:
        self.services, self.name = services, name
        self.run = RunFolder(services.root / name)

    def trigger(self, id: str, *overrides: str, when_busy: str = "refuse") -> str:
        """Starts a round and returns its flow run."""
        asked = {"project": self.name, "trigger": id, "overrides": list(overrides), "when_busy": when_busy}
        return self.services.start("next-round", asked)

    def outcome(self, id: str) -> str:
        found = read_trigger(self.run, id)
        return found.outcome if found is not None else "unknown"

    def lease(self) -> Lease | None:
        return read_lease(self.run.path / LEASE)

    def in_the_middle(self, id: str, round_index: int, *overrides: str, steps: int = STEPS) -> str:
        """Starts a round and returns its flow run when knowledge is being distilled."""
        flow_run = self.trigger(id, f"distill.steps={steps}", *overrides)
        until(lambda: self.run.has(round_index, "accumulate"), f"round {round_index} of {self.name} is in the middle")
        return flow_run

    def trainer(self) -> Lease:
        """Who works on the project now."""
        lease = self.lease()
        assert lease is not None
        assert is_alive(lease.holder)
        return lease


def tracked_states(services: Services, project: str) -> dict[str, str]:
    """What MLflow says of a project's runs: name → state."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{services.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("oel")
    assert experiment is not None
    found = {str(run.info.run_name): str(run.info.status) for run in client.search_runs([experiment.experiment_id])}
    return {name: state for name, state in found.items() if name == project or name.startswith(f"{project} ")}


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """A file system of its own for `folder`, so that it can be full; says whether this machine permits one.

    Unmounted by the process that `swept` starts, so also when this one is killed.
    """
    options = ["-o", f"size={megabytes}m,mode=700"]
    command = ["mount", "-t", "tmpfs", *options, "oel-test", str(folder)]
    with swept(folder):
        yield os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
