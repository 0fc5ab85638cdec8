"""The commands of deployments/containers/compose.yaml, as processes of this machine instead of containers.

PostgreSQL is a real server, the object store is moto's. Names of services, ports and folders are replaced by those of
the test, in commands and environments alike; nothing else is.
"""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.services.servers import DIRECT
from tests.deployments.composed import CONTAINERS, Composed, composed, env_names, image_environment
from tests.e2e.loop import short_config
from tests.e2e.operating import PATIENCE_S, SOURCE, copy_source, free_ports, until
from tests.e2e.postgres import Postgres, running_postgres
from tests.fakes import tiny_model_folder

pytestmark = pytest.mark.services
PORTS = ("4200", "5000", "8010", "8080", "3900", "5432")
SERVERS = ("prefect", "mlflow", "s3", "postgres")


class Machine:
    """Runs services of the compose file under one folder."""

    def __init__(self, home: Path, postgres: Postgres) -> None:
        self.home, self.root = home, home / "runs"
        self.ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True)) | {"5432": str(postgres.port)}
        self.secrets = {name: secrets.token_hex(16) for name in env_names(CONTAINERS / "example.env")}
        self.secrets |= {"POSTGRES_PASSWORD": postgres.password, "OEL_DEVICE": "cpu", "OEL_PROJECT": "shop"}
        self.services = composed(self.secrets)
        self.folders = {"opt/oel": home, "runs": self.root, "cache": home / "cache", "tmp": home / "tmp"}

    def local(self, text: str) -> str:
        """A word of a command or an environment variable, on this machine."""
        text = re.sub(rf"\b({'|'.join(SERVERS)})(?=:\d)", "127.0.0.1", text).replace("0.0.0.0", "127.0.0.1")
        text = re.sub(rf"\b({'|'.join(PORTS)})\b", lambda found: self.ports[found[0]], text)
        return re.sub(r"(?<![\w.])/(opt/oel|runs|cache|tmp)\b", lambda found: str(self.folders[found[1]]), text)

    def command(self, words: tuple[str, ...]) -> list[str]:
        """With this test's interpreter; the programs lie beside it, `oel` in the copy of the source."""
        program, *rest = map(self.local, words)
        places = {"oel": self.home / "bin" / "oel", "python": Path(sys.executable)}
        return [str(places.get(program, Path(sys.executable).parent / program)), *rest]

    def environment(self, own: Mapping[str, str]) -> dict[str, str]:
        """Of the service alone, with what the image sets; nothing of the test's process but its path."""
        image = {name: self.local(value) for name, value in image_environment().items()}
        image |= {"PATH": f"{self.home / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
        image |= {"PYTHONPATH": str(self.home), "HOME": str(self.home), "OMP_NUM_THREADS": "1", "NO_PROXY": "*"}
        return image | {name: self.local(value) for name, value in own.items()}

    def run(self, service: str, *words: str) -> str:
        """`docker compose run --rm SERVICE WORDS`, or the service's own command."""
        one = self.services[service]
        command, environment = self.command(words or one.command), self.environment(one.environment)
        done = subprocess.run(
            command, env=environment, cwd=self.home, capture_output=True, text=True, check=False, timeout=3 * PATIENCE_S
        )
        assert done.returncode in (0, 3), f"{command}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    @contextmanager
    def up(self, *names: str) -> Iterator[None]:
        """Services that are healthy by their own checks; ended as `docker compose down` does."""
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(self._running(self.services[name]))
            yield

    @contextmanager
    def _running(self, one: Composed) -> Iterator[None]:
        environment = self.environment(one.environment)
        with (self.home / f"{one.name}.log").open("wb") as log:
            process = subprocess.Popen(
                self.command(one.command),
                env=environment,
                cwd=self.home,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                check = self.command(one.health[1:])
                until(lambda: self._healthy(process, check), f"{one.name} is healthy", 3 * PATIENCE_S)
                yield
            finally:
                process.terminate()
                try:
                    process.wait(60)
                finally:
                    if process.poll() is None:
                        os.killpg(process.pid, signal.SIGKILL)

    def _healthy(self, process: subprocess.Popen[bytes], check: list[str]) -> bool:
        assert process.poll() is None, self.logs()
        return subprocess.run(check, cwd=self.home, capture_output=True, check=False).returncode == 0

    def logs(self) -> str:
        return "\n".join(f"== {path}\n{path.read_text()[-3000:]}" for path in sorted(self.home.glob("*.log")))


@contextmanager
def object_store(port: str, folder: Path) -> Iterator[Any]:
    """An S3 server with the bucket of the compose file."""
    boto3 = pytest.importorskip("boto3", reason="pip install 'oel[s3]'")
    pytest.importorskip("moto.server", reason="pip install 'moto[server]'")
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", port]
    with (folder / "s3.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        until(lambda: _has_bucket(client), "the object store answers")
        yield client
    finally:
        server.terminate()
        server.wait(60)


def _has_bucket(client: Any) -> bool:
    try:
        client.create_bucket(Bucket="oel")
    except Exception:
        return False
    return True


def ask(url: str, token: str | None, body: object = None) -> tuple[int, Any]:
    """Status and answer of a request with a bearer token."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with DIRECT.open(urllib.request.Request(url, data, headers), timeout=PATIENCE_S) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, None


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    home = tmp_path / "oel"
    copy_source(home, short_config(tiny_model_folder(tmp_path), rounds=1))
    with running_postgres() as postgres:
        found = Machine(home, postgres)
        found.root.mkdir()
        tracking = home / "deployments" / "containers" / "mlflow.yaml"
        tracking.write_text(found.local(tracking.read_text()))
        postgres.run_file(SOURCE / "deployments" / "kubernetes" / "databases.sql")
        yield found


def test_the_services_play_a_round_and_serve_its_project(machine: Machine) -> None:
    with object_store(machine.ports["3900"], machine.home) as store, machine.up("prefect", "mlflow"):
        assert "next-round" in machine.run("deploy")
        with machine.up("worker"):
            machine.run("deploy", "oel", "init", "shop", "--root", "/runs")
            preset = "preset_file=/runs/shop/preset.yaml"
            said = machine.run(
                "deploy", "oel", "trigger", "next-round", "--set", "project=shop", "--set", preset, "--wait"
            )
            assert "Refused" in said, said
        kept = [one["Key"] for one in store.list_objects_v2(Bucket="oel")["Contents"]]
        assert any(name.startswith("mlflow/") and name.endswith("report.html") for name in kept), kept
        assert not (machine.root / "mlflow.db").exists()
        assert not (machine.root / "mlartifacts").exists()
        with machine.up("gateway"):
            serves_with_its_token(machine)
        kubernetes_pool_has_the_template(machine)
    assert_no_secrets(machine)


def serves_with_its_token(machine: Machine) -> None:
    url = f"http://127.0.0.1:{machine.ports['8010']}/v1/chat/completions"
    body = {"model": "shop", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    assert ask(url, "wrong", body)[0] == 401
    status, answer = ask(url, machine.secrets["OEL_GATEWAY_TOKEN"], body)
    assert (status, answer["object"]) == (200, "chat.completion")


def kubernetes_pool_has_the_template(machine: Machine) -> None:
    said = machine.run("deploy", "oel", "deploy", "--pool", "kubernetes", "--image", "registry.example/oel:1")
    assert "next-round/next-round  in pool kubernetes" in said
    api = f"http://127.0.0.1:{machine.ports['4200']}/api"
    _, pool = ask(f"{api}/work_pools/kubernetes", None)
    assert pool["type"] == "kubernetes"
    assert pool["base_job_template"]["variables"]["properties"]["image"]["default"] == "registry.example/oel:1"
    _, deployment = ask(f"{api}/deployments/name/next-round/next-round", None)
    assert deployment["work_pool_name"] == "kubernetes"
    step = "prefect.deployments.steps.set_working_directory"
    assert deployment["pull_steps"] == [{step: {"directory": "/opt/oel"}}]


def assert_no_secrets(machine: Machine) -> None:
    hidden = [machine.secrets[name].encode() for name in ("POSTGRES_PASSWORD", "OEL_GATEWAY_TOKEN", "S3_SECRET_KEY")]
    for path in machine.home.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert not [word for word in hidden if word in data], path
