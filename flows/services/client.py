"""Connects a process to the services of a run root; the Prefect client."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.services.control import postgres_address
from flows.services.pools import ensure_pool, home_of_flows
from flows.services.process import find, python, runs
from flows.services.servers import HOME_OF_FLOWS, PREFECT, common_environment, read_settings, worker_environment
from oel_core.errors import ConfigError, ServiceError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

PREFECT_FILE = HOME_OF_FLOWS / "deployments" / "prefect.yaml"


def use_services(root: Path) -> None:
    """Configures this process for the services of `root`. Call it before Prefect is imported.

    An API that the user configured takes precedence.

    Raises:
        ConfigError: no Prefect server runs for this root, and none is configured.
    """
    if os.environ.get("PREFECT_API_URL"):
        return
    if not join_services(root):
        raise ConfigError(f"no Prefect server runs for {root}: `oel up --root {root}`, or set PREFECT_API_URL")


def join_services(root: Path) -> bool:
    """As `use_services`, but only if they run; returns whether they do."""
    settings = read_settings(root.resolve())
    server = find(root.resolve(), PREFECT)
    if settings is None or server is None or not runs(server):
        return False
    os.environ.update(common_environment(root.resolve(), settings))
    return True


def use_running_services(root: Path) -> None:
    """As `use_services`, but a root whose services do not run is no error."""
    if not os.environ.get("PREFECT_API_URL"):
        join_services(root)


def use_tracking(root: Path, given: str | None = None) -> None:
    """Configures this process for the MLflow database of `root` if it is in PostgreSQL, at the given address if any.

    Raises:
        ConfigError: it is in PostgreSQL, and its address is not known.
    """
    settings = read_settings(root.resolve())
    if settings is None or not settings.postgres or os.environ.get("OEL_TRACKING_URI"):
        return
    address = postgres_address(given, settings)
    os.environ.update({"OEL_TRACKING_URI": worker_environment(root.resolve(), address)["OEL_TRACKING_URI"]})


def register_deployments(prefect_file: Path, pool: str, image: str | None) -> str:
    """Registers every deployment of a Prefect file, with its pool where that is missing; returns Prefect's output.

    Raises:
        ConfigError: pool and image do not fit (`ensure_pool`).
        ServiceError: Prefect rejects one; the message is Prefect's.
    """
    with prefect_client() as client:
        ensure_pool(client, pool, image)
    command = python("-m", "prefect", "--no-prompt", "deploy", "--prefect-file", str(prefect_file.resolve()), "--all")
    environment = os.environ | {"OEL_HOME": home_of_flows(pool), "OEL_POOL": pool, "COLUMNS": "160"}
    done = subprocess.run(command, cwd=HOME_OF_FLOWS, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServiceError(f"the deployments were not registered:\n{(done.stdout + done.stderr).strip()[-3000:]}")
    return done.stdout


@contextmanager
def prefect_client() -> "Iterator[SyncPrefectClient]":
    """A client of the server configured by `use_services`.

    Raises:
        ConfigError: the server rejects a request, like a parameter of the wrong type.
        ServiceError: it does not respond, or fails.
    """
    import httpx
    from prefect.client.orchestration import get_client

    from flows.recovery.outages import is_outage

    url = os.environ.get("PREFECT_API_URL")
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPStatusError as error:
        kind = ConfigError if error.response.is_client_error else ServiceError
        raise kind(f"the Prefect server at {url} says: {_detail(error.response.text)}") from error
    except (httpx.TransportError, RuntimeError) as error:
        if not is_outage(error):
            raise
        raise ServiceError(f"the Prefect server at {url} does not answer ({error}): see `oel status`") from error


def _detail(text: str) -> str:
    """The detail message of the server's response."""
    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        return text[:1000]
