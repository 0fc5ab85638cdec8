"""The temporary API: ends with its parent, and errors at start-up."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import local
from flows.cli.app import call
from flows.local import kill_temporary_server, start_temporary_server, use_local_services, wait_until_ready
from flows.services.process import Service
from flows.services.servers import UpSettings, write_settings
from oel_core.errors import ConfigError, OelError
from oel_core.runs.groups import group_members
from tasks.tracking.settings import TrackingSettings, load_settings

STARTER = """
import sys, time
from pathlib import Path
from flows import local
from flows.cli.app import call
from flows.services.process import Service
sleeper = Service("prefect", ["sleep", "60"], {"PREFECT_API_URL": "http://127.0.0.1:1/api", "NO_PROXY": ""}, "", bool)
local.prefect_server = lambda *arguments: sleeper
local.start_temporary_server(Path(sys.argv[1]))
print(local._server.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")  # so that it is as before after the test
    monkeypatch.delenv("PREFECT_API_URL")
    yield
    kill_temporary_server()


def stand_in(monkeypatch: pytest.MonkeyPatch, *command: str) -> None:
    environment = {"PREFECT_API_URL": "http://127.0.0.1:1/api", "NO_PROXY": "127.0.0.1"}
    service = Service("prefect", list(command), environment, "http://127.0.0.1:1", lambda: False)
    monkeypatch.setattr(local, "prefect_server", lambda *arguments: service)


@pytest.mark.parametrize("command", [("sleep", "60"), ("false",)])
def test_an_api_that_does_not_start_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    stand_in(monkeypatch, *command)
    start_temporary_server(tmp_path)
    with pytest.raises(OelError, match=r"temporary-server\.log.*PREFECT_API_URL"):
        wait_until_ready(timeout_s=0.5)
    assert "PREFECT_API_URL" not in os.environ


def test_a_server_of_the_users_own_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    start_temporary_server(tmp_path)
    assert local._server is None
    wait_until_ready()
    kill_temporary_server()
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:1/api"


def test_it_ends_with_a_starter_that_is_killed_alone(tmp_path: Path) -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path)], stdout=subprocess.PIPE)
    assert starter.stdout is not None
    guardian = int(starter.stdout.readline())
    until = time.monotonic() + 20
    while not (server := children(guardian)) and time.monotonic() < until:
        time.sleep(0.02)
    assert server
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    while (group_members(guardian) or group_members(server[0])) and time.monotonic() < until:
        time.sleep(0.02)
    assert not group_members(guardian)
    assert not group_members(server[0])


def children(pid: int) -> list[int]:
    try:
        return [int(found) for found in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def test_a_run_is_tracked_where_its_roots_services_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in a second database beside theirs."""
    for name in ("OEL_POSTGRES", "OEL_TRACKING_URI"):
        monkeypatch.setenv(name, "")  # so that it is as before after the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    write_settings(tmp_path, UpSettings(postgres=True))
    with pytest.raises(ConfigError, match="OEL_POSTGRES"):
        use_local_services(tmp_path, verbose=False)
    monkeypatch.setenv("OEL_POSTGRES", "postgresql://me@db.example/postgres")
    use_local_services(tmp_path, verbose=False)
    assert load_settings().tracking_uri == "postgresql+psycopg2://me@db.example/oel_mlflow"


ODD = "a b #c {run} {root} % é"


@pytest.mark.slow
def test_a_root_with_odd_signs_gets_its_databases_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    root = tmp_path / "runs" / ODD
    monkeypatch.setenv("PREFECT_HOME", str(root / ".prefect"))
    (root / ".prefect").mkdir(parents=True)
    start_temporary_server(root)
    wait_until_ready()
    settings = TrackingSettings().resolved(root, "first")
    client = MlflowClient(settings.tracking_uri)
    experiment = client.create_experiment("one", artifact_location=settings.artifact_location)
    client.log_text(client.create_run(experiment).info.run_id, "text", "a.txt")
    assert {path.name for path in root.iterdir()} == {".prefect", "mlflow.db", "mlartifacts"}
    assert (root / ".prefect" / "prefect.db").stat().st_size > 0
    assert len(list((root / "mlartifacts").rglob("a.txt"))) == 1
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [ODD]


@pytest.mark.parametrize("name", ["a?b", "a%20b"])
def test_a_root_that_no_url_can_name_is_refused_first(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="may not contain"):
        use_local_services(tmp_path / name, verbose=False)
    assert call(["up", "--root", str(tmp_path / name)]) == 2
    assert not list(tmp_path.glob("a*"))


def test_names_in_templates_are_filled_in_once(tmp_path: Path) -> None:
    settings = TrackingSettings(experiment="{run} {root}").resolved(tmp_path / "{run}", "{root}")
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/{{run}}/mlflow.db"
    assert settings.experiment == f"{{root}} {tmp_path}/{{run}}"
    assert settings.registered_model == "oel-{root}"
