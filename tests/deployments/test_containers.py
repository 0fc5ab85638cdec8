"""The Dockerfile and the compose file: what they name exists, nothing is open, nothing secret is written down."""

import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
import yaml

from flows.services.pools import IMAGE_HOME
from tests.deployments.composed import (
    COMPOSE,
    CONTAINERS,
    ROOT,
    VARIABLE,
    Composed,
    composed,
    env_names,
    image_environment,
)
from tests.deployments.named import PINNED, check_command, unknown

EXAMPLE = CONTAINERS / "example.env"
FILLED = {name: f"filled-{name.lower()}" for name in env_names(EXAMPLE)} | {"OEL_DEVICE": "cpu", "OEL_PROJECT": "shop"}
SERVICES = composed(FILLED)
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|DATABASE|STORE_URI")
DOCKERFILE = (CONTAINERS / "Dockerfile").read_text()


def instructions(name: str) -> list[str]:
    """What follows a Dockerfile's instruction, continued lines joined."""
    joined = re.sub(r"\\\n", " ", DOCKERFILE)
    return re.findall(rf"^{name}\s+(.*)$", joined, re.MULTILINE)


@pytest.fixture(params=SERVICES, name="service")
def _service(request: pytest.FixtureRequest) -> Composed:
    return SERVICES[request.param]


def test_all_are_there() -> None:
    assert set(SERVICES) == {"postgres", "s3", "prefect", "mlflow", "deploy", "worker", "gateway"}


def test_images_are_pinned(service: Composed) -> None:
    assert PINNED.match(service.image)


def test_commands_exist(service: Composed) -> None:
    if service.command:
        check_command(service.command)
    if service.health:
        assert service.health[0] == "CMD"
        check_command(service.health[1:])


def test_what_runs_on_is_checked(service: Composed) -> None:
    assert bool(service.health) != (service.name == "deploy")


def test_environment_variables_exist(service: Composed) -> None:
    if service.name not in ("postgres", "s3"):
        named = {word.partition("token_env=")[2] for word in service.command if "token_env=" in word}
        assert unknown(service.environment, named) == []


def test_environment_variables_of_the_image_exist() -> None:
    ours = [name for name in image_environment() if name.startswith(("OEL_", "PREFECT_", "MLFLOW_"))]
    assert len(ours) >= 5
    assert unknown(ours) == []


def test_ports_are_on_loopback(service: Composed) -> None:
    assert [port for port in service.ports if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)] == []
    assert "network_mode" not in service.given


def test_own_services_have_no_rights(service: Composed) -> None:
    if service.name not in ("postgres", "s3"):
        assert service.given["read_only"]
        assert service.given["cap_drop"] == ["ALL"]
        assert service.given["security_opt"] == ["no-new-privileges:true"]
        assert not service.given.get("privileged")


def test_secrets_come_from_the_environment_file_alone() -> None:
    """Also that no secret is on a command line, where every user of the machine sees it."""
    raw = yaml.safe_load(COMPOSE.read_text())["services"]
    secrets = {name: value for one in raw.values() for name, value in one.get("environment", {}).items()}
    found = {name: value for name, value in secrets.items() if SECRET.search(name) and name != "GARAGE_DEFAULT_BUCKET"}
    assert len(found) >= 8
    assert [name for name, value in found.items() if not VARIABLE.search(value)] == []
    secret = {FILLED[name] for name in FILLED if SECRET.search(name)}
    assert [word for one in SERVICES.values() for word in one.command if any(part in word for part in secret)] == []


def test_the_example_has_every_variable_and_no_secret() -> None:
    assert set(env_names(EXAMPLE)) == {name for name, *_ in VARIABLE.findall(COMPOSE.read_text())}
    given = dict(line.split("=", 1) for line in EXAMPLE.read_text().splitlines() if "=" in line and line[0] != "#")
    assert {name: value for name, value in given.items() if SECRET.search(name) and value} == {}


def test_an_unfilled_example_is_refused() -> None:
    with pytest.raises(KeyError):
        composed({name: "" for name in FILLED if name != "POSTGRES_PASSWORD"})


def test_filled_in_copies_are_ignored_by_git() -> None:
    for path in ("deployments/containers/.env", "deployments/kubernetes/secrets.env"):
        assert subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False).returncode == 0, path
    assert "deployments/**/*.env" in (CONTAINERS / "Dockerfile.dockerignore").read_text()


def test_mounted_files_exist(service: Composed) -> None:
    files = [volume.split(":")[0] for volume in service.given.get("volumes", ()) if volume.startswith(".")]
    assert [name for name in files if not (CONTAINERS / name).is_file()] == []


def test_the_image_runs_without_root_from_the_folder_that_deployments_name() -> None:
    assert instructions("USER") == ["10001"]
    assert instructions("WORKDIR") == [IMAGE_HOME, IMAGE_HOME]
    assert f"OEL_HOME={IMAGE_HOME}" in instructions("ENV")[-1]
    assert SERVICES["worker"].environment["OEL_MLFLOW"].startswith(f"{IMAGE_HOME}/deployments/containers/")


def test_the_image_takes_only_what_the_source_has() -> None:
    copied = [word for line in instructions("COPY") if not line.startswith("--from") for word in line.split()[:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    allowed = (CONTAINERS / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} == {line for line in allowed if line.startswith("!")}
    assert allowed[1] == "*"


def test_base_images_are_pinned_and_extras_exist() -> None:
    import tomllib

    arguments = dict(line.split("=", 1) for line in instructions("ARG"))
    assert PINNED.match(arguments["PYTHON_IMAGE"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(arguments["EXTRAS"].split(",")) <= set(project["optional-dependencies"])
    makefile = (ROOT / "Makefile").read_text()
    assert f"TORCH ?= {arguments['TORCH']}\n" in makefile
    assert f"CPU_INDEX ?= {arguments['CPU_INDEX']}\n" in makefile


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_health_is_the_status_of_the_answer(status: int, code: int) -> None:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        command = [sys.executable, str(CONTAINERS / "health.py"), f"http://127.0.0.1:{server.server_port}/health"]
        assert subprocess.run(command, check=False, capture_output=True).returncode == code
        server.shutdown()


def test_no_answer_is_not_healthy() -> None:
    command = [sys.executable, str(CONTAINERS / "health.py"), "http://127.0.0.1:9/health"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "http://127.0.0.1:9/health" in done.stderr
