"""`oel up --postgres` on a PostgreSQL server of its own, which is restarted in the middle of a round."""

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import starting
from tests.e2e.loop import short_config
from tests.e2e.operating import Services, copy_source, free_ports
from tests.fakes import tiny_model_folder

pytestmark = pytest.mark.services
FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")


def program(name: str) -> str:
    """One of PostgreSQL's programs, or a skipped test that says what to install."""
    places = [str(found) for pattern in FOLDERS for found in Path("/").glob(pattern.lstrip("/"))]
    found = shutil.which(name, path=os.pathsep.join([*sorted(places, reverse=True), os.environ["PATH"]]))
    if found is None:
        pytest.skip(f"PostgreSQL's {name} is not installed: apt-get install postgresql")
    if importlib.util.find_spec("psycopg2") is None:
        pytest.skip("psycopg2 is not installed: pip install 'oel[postgres]'")
    return found


class Postgres:
    """A cluster of its own on a port of its own, with a password. PostgreSQL refuses to run as root."""

    def __init__(self, folder: Path) -> None:
        self._data, self._port, self.password = folder / "data", free_ports(1)[0], secrets.token_hex(8)
        self._log = folder / "log"
        self._user: dict[str, object] = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam("postgres")
            os.chown(folder, entry.pw_uid, entry.pw_gid)
            self._user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        word = folder / "password"
        word.write_text(self.password)
        word.chmod(0o644)
        self._call("initdb", "--pgdata", self._data, "--auth", "scram-sha-256", "--username", "oel", "--pwfile", word)
        word.unlink()

    @property
    def url(self) -> str:
        return f"postgresql://oel:{self.password}@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._call("pg_ctl", "--pgdata", self._data, "--log", self._log, "--options", options, "--wait", "start")

    def stop(self) -> None:
        """As an administrator's restart does: every connection is cut."""
        self._call("pg_ctl", "--pgdata", self._data, "--mode", "fast", "--wait", "stop")

    def _call(self, name: str, *arguments: object) -> None:
        command = [program(name), *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            **self._user,  # type: ignore[call-overload]
        )
        assert done.returncode == 0, f"{command}: exit code {done.returncode}"


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """In a folder that PostgreSQL's user may reach, which pytest's own are not."""
    import tempfile

    program("initdb")
    with tempfile.TemporaryDirectory(prefix="oel-postgres-") as folder:
        Path(folder).chmod(0o755)
        found = Postgres(Path(folder))
        found.start()
        try:
            yield found
        finally:
            with contextlib.suppress(AssertionError):
                found.stop()


@pytest.fixture
def on_postgres(postgres: Postgres, tmp_path: Path) -> Iterator[Services]:
    home = tmp_path / "operated"
    copy_source(home, short_config(tiny_model_folder(tmp_path), rounds=1))
    with starting(Services(home, postgres=postgres.url)) as services:
        yield services


def test_a_round_outlasts_a_restart_of_postgres(on_postgres: Services, postgres: Postgres) -> None:
    project = on_postgres.project("lake")
    flow_run = project.in_the_middle("one", 1)
    trainer = project.trainer().holder
    postgres.stop()
    postgres.start()
    ended = on_postgres.ended(flow_run)
    assert on_postgres.well(), on_postgres.logs()
    assert (ended["name"], project.outcome("one")) == ("Refused", "refused"), f"{trainer} {ended}"
    assert project.run.rounds() == [0, 1]
    on_postgres.oel("promote", "lake", "--force", "--reason", "for the test")
    assert "promote" in on_postgres.oel("history", "lake")
    assert on_postgres.open_runs() == []
    assert not (on_postgres.root / "mlflow.db").exists()
    for path in on_postgres.root.rglob("*"):
        assert not path.is_file() or postgres.password.encode() not in path.read_bytes(), path
