"""The servers' command lines: loopback, free ports, data under one root, no passwords."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.cli.app import call
from flows.services.control import postgres_address, status, up
from flows.services.ports import is_loopback, require_free, require_loopback
from flows.services.postgres import check_url, database_url
from flows.services.servers import UpSettings, read_settings, services, write_settings
from oel_core.config.urls import without_secrets
from oel_core.errors import ConfigError
from tasks.tracking.settings import load_settings

URL = "postgresql://me:hunter2@db.example:5433/postgres?sslmode=require"


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_addresses_are_fine(host: str) -> None:
    assert is_loopback(host)
    require_loopback(host, expose=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org", "localhost.evil.org"])
def test_other_addresses_need_a_word(host: str) -> None:
    with pytest.raises(ConfigError, match="--expose"):
        require_loopback(host, expose=False)
    require_loopback(host, expose=True)


def test_the_command_refuses_them_before_anything_starts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OEL_POSTGRES", raising=False)
    assert call(["up", "--root", str(tmp_path / "root"), "--host", "0.0.0.0"]) == 2
    assert "no authentication" in capfd.readouterr().err
    assert not (tmp_path / "root").exists()


def test_a_busy_port_is_named_with_who_holds_it(taken: int) -> None:
    with pytest.raises(ConfigError, match=rf"port {taken} for the prefect server.*listens there.*--prefect-port"):
        require_free("127.0.0.1", taken, "prefect server", "--prefect-port")


def test_up_says_it_before_it_starts_anything(tmp_path: Path, taken: int) -> None:
    settings = UpSettings(mlflow_port=taken)
    with pytest.raises(ConfigError, match="--mlflow-port"):
        up(tmp_path, settings, None, expose=False, timeout_s=1, say=lambda line: None)
    assert status(tmp_path) == []


@pytest.mark.parametrize("postgres", [None, URL])
def test_data_lie_under_one_root_and_nothing_calls_home(tmp_path: Path, postgres: str | None) -> None:
    root = tmp_path / "root"
    for service in services(root, UpSettings(pools=("oel-cpu", "oel-gpu")), postgres):
        environment = service.environment
        assert environment["DO_NOT_TRACK"] == "1"
        assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
        assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
        assert environment["PREFECT_HOME"] == str(root / ".prefect")
        assert "hunter2" not in " ".join(service.command) + service.url
        assert "0.0.0.0" not in " ".join(service.command)
    names = [service.name for service in services(root, UpSettings(pools=("oel-cpu", "oel-gpu")), postgres)]
    assert names == ["prefect", "mlflow", "oel-cpu", "oel-gpu"]


def test_postgres_gets_a_database_for_each_server() -> None:
    assert database_url(URL, "prefect") == (
        "postgresql+asyncpg://me:hunter2@db.example:5433/oel_prefect?sslmode=require"
    )
    assert database_url(URL, "mlflow").startswith("postgresql+psycopg2://me:hunter2@db.example:5433/oel_mlflow")
    check_url(URL)
    for wrong in ("mysql://x/y", "postgres", "postgresql:///only"):
        with pytest.raises(ConfigError, match="postgresql://user"):
            check_url(wrong)


def test_its_address_is_asked_for_again_and_its_password_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OEL_POSTGRES", raising=False)
    write_settings(tmp_path, UpSettings(postgres=True))
    with pytest.raises(ConfigError, match="OEL_POSTGRES"):
        postgres_address(None, read_settings(tmp_path))
    monkeypatch.setenv("OEL_POSTGRES", URL)
    assert postgres_address(None, read_settings(tmp_path)) == URL
    assert without_secrets(URL) == "postgresql://me@db.example:5433/postgres?sslmode=require"
    assert without_secrets("sqlite:////a/b:c@d.db") == "sqlite:////a/b:c@d.db"
    monkeypatch.setenv("OEL_TRACKING_URI", database_url(URL, "mlflow"))
    assert load_settings().tracking_uri == database_url(URL, "mlflow")


def test_nothing_started_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(["status", "--root", str(tmp_path)]) == 0
    assert "nothing was started" in capfd.readouterr().out
    assert call(["down", "--root", str(tmp_path)]) == 0
    assert "nothing was running" in capfd.readouterr().out


def test_commands_that_need_a_server_say_how_to_get_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    for command in (["deploy"], ["trigger", "next-round"], ["schedule", "next-round"]):
        assert call([*command, "--root", str(tmp_path)]) == 2
        assert "oel up --root" in capfd.readouterr().err
