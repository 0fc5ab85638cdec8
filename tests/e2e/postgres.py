"""A PostgreSQL server of its own for a test."""

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.operating import free_ports

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
    """A server of its own on a port of its own, with a password. PostgreSQL refuses to run as root."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._data = folder, folder / "data"
        self.port, self.password = free_ports(1)[0], secrets.token_hex(8)
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
        return f"postgresql://oel:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        self._start(self._data, self.port)

    def stop(self, mode: str = "fast") -> None:
        """Every connection is cut: `fast` as by a restart, `immediate` as by a crash."""
        self._call("pg_ctl", "--pgdata", self._data, "--mode", mode, "--wait", "stop")

    def replicate(self) -> Path:
        """Starts a standby that has every commit before the client is told of it; returns its folder."""
        standby = self._folder / "standby"
        self._call("pg_basebackup", "--pgdata", standby, "--write-recovery-conf", "--dbname", self.url)
        self._start(standby, free_ports(1)[0])
        self.query("alter system set synchronous_standby_names = '*'")
        self.query("select pg_reload_conf()")
        return standby

    def fail_over(self, standby: Path) -> None:
        """The server crashes for good, and its standby takes its place at the same address."""
        self.stop("immediate")
        self._call("pg_ctl", "--pgdata", standby, "--wait", "promote")
        self._call("pg_ctl", "--pgdata", standby, "--mode", "fast", "--wait", "stop")
        with (standby / "postgresql.auto.conf").open("a") as settings:
            settings.write("synchronous_standby_names = ''\n")
        self._data = standby
        self.start()

    def query(self, text: str) -> None:
        """Runs one statement in the database `postgres`."""
        self._call("psql", "--no-psqlrc", "--command", text, self.url)

    def run_file(self, path: Path) -> None:
        """Runs a file of statements in the database `postgres`."""
        self._call("psql", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--file", path, self.url)

    def _start(self, data: Path, port: int) -> None:
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._call("pg_ctl", "--pgdata", data, "--log", self._log, "--options", options, "--wait", "start")

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


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """In a folder that PostgreSQL's user may reach, which pytest's own are not."""
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
