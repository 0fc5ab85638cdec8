"""The services of `oel up`: command lines, environments, data locations and health checks."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from flows.services.postgres import database_url
from flows.services.process import HOME, Service, python
from oel_core.runs.files import write_atomic
from oel_core.runs.manifest import read_optional
from oel_core.types import Record

PREFECT, MLFLOW = "prefect", "mlflow"
POOLS = ("oel-cpu", "oel-gpu")
HOME_OF_FLOWS = Path(__file__).parent.parent.parent
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Bypasses proxies for loopback addresses."""


class UpSettings(Record):
    """`.oel/up.json`: arguments of the last `oel up`, without the database URL, which may contain a password."""

    host: str = "127.0.0.1"
    prefect_port: int = Field(default=4200, ge=1, le=65535)
    mlflow_port: int = Field(default=5000, ge=1, le=65535)
    pools: tuple[str, ...] = ("oel-cpu",)
    postgres: bool = False

    @property
    def prefect_url(self) -> str:
        return f"http://{_shown(self.host)}:{self.prefect_port}"

    @property
    def mlflow_url(self) -> str:
        return f"http://{_shown(self.host)}:{self.mlflow_port}"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def settings_path(root: Path) -> Path:
    """File of the last `oel up`'s settings."""
    return root / HOME / "up.json"


def read_settings(root: Path) -> UpSettings | None:
    """The settings of the last `oel up` under this root, or None."""
    path = settings_path(root)
    return read_optional(path, UpSettings)


def write_settings(root: Path, settings: UpSettings) -> None:
    """Stores the settings for `status`, `deploy`, `trigger` and the next `up`."""
    write_atomic(settings_path(root), settings.model_dump_json(indent=1).encode())


def services(root: Path, settings: UpSettings, postgres: str | None) -> list[Service]:
    """All services, in start order."""
    return [
        prefect_server(root, settings, postgres),
        mlflow_server(root, settings, postgres),
        *(worker(root, settings, postgres, pool) for pool in settings.pools),
    ]


def common_environment(root: Path, settings: UpSettings) -> dict[str, str]:
    """Environment variables for all clients of the services."""
    home = root / ".prefect"
    return {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_MEMO_STORE_PATH": str(home / "memo_store.toml"),
        "PREFECT_API_URL": f"{settings.prefect_url}/api",
        "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY", ""), settings.host])),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HOME_OF_FLOWS), os.environ.get("PYTHONPATH", "")])),
        "PYTHONUNBUFFERED": "1",
    }


def prefect_server(root: Path, settings: UpSettings, postgres: str | None) -> Service:
    """Run by uvicorn directly, so that the monitored process is the one that serves."""
    environment = common_environment(root, settings)
    environment |= {
        "PREFECT_SERVER_API_HOST": settings.host,
        "PREFECT_SERVER_API_PORT": str(settings.prefect_port),
        "PREFECT_UI_API_URL": f"{settings.prefect_url}/api",
    }
    if postgres is not None:
        environment["PREFECT_API_DATABASE_CONNECTION_URL"] = database_url(postgres, PREFECT)
    app = ["--factory", "prefect.server.api.server:create_app", "--timeout-keep-alive", "5"]
    place = ["--host", settings.host, "--port", str(settings.prefect_port), "--log-level", "warning"]
    return Service(
        PREFECT,
        python("-m", "uvicorn", *app, *place),
        environment,
        settings.prefect_url,
        lambda: answers(f"{settings.prefect_url}/api/health"),
    )


def mlflow_server(root: Path, settings: UpSettings, postgres: str | None) -> Service:
    """Its database URL is passed in the environment, because command lines are visible to all users."""
    uri = database_url(postgres, MLFLOW) if postgres else f"sqlite:///{root / 'mlflow.db'}"
    environment = common_environment(root, settings) | {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": (root / "mlartifacts").as_uri(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    place = ["--host", settings.host, "--port", str(settings.mlflow_port), "--workers", "1"]
    return Service(
        MLFLOW,
        python("-m", "tasks.tracking.server", *place),
        environment,
        settings.mlflow_url,
        lambda: answers(f"{settings.mlflow_url}/health"),
    )


def worker(root: Path, settings: UpSettings, postgres: str | None, pool: str) -> Service:
    """One worker for a pool. Its flow runs access MLflow's database directly, without the MLflow server."""
    environment = common_environment(root, settings) | worker_environment(root, postgres)
    name = f"{pool}-{root.name}"
    command = ["-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", name]
    return Service(
        pool,
        python(*command),
        environment,
        f"{settings.prefect_url}/work-pools/work-pool/{pool}",
        lambda: _has_worker(f"{settings.prefect_url}/api/work_pools/{pool}/workers/filter", name),
        keeps_children=True,
    )


def worker_environment(root: Path, postgres: str | None) -> dict[str, str]:
    """Environment of flow runs: data locations, and timeouts of minutes for a server that is being restarted."""
    found = {
        "OEL_ROOT": str(root),
        "OEL_HOME": str(HOME_OF_FLOWS),
        "PREFECT_CLIENT_MAX_RETRIES": "8",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",
    }
    return found | ({"OEL_TRACKING_URI": database_url(postgres, MLFLOW)} if postgres else {})


def ensure_pools(settings: UpSettings) -> None:
    """Creates both work pools if missing, with a concurrency limit of 1; a limit set in the UI is kept.

    A pool without a worker on this machine is created too, since every deployment needs its pool.
    """
    for pool in POOLS:
        post(f"{settings.prefect_url}/api/work_pools/", {"name": pool, "type": "process", "concurrency_limit": 1})


def answers(url: str) -> bool:
    """Whether a GET request returns status 200."""
    try:
        with DIRECT.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _has_worker(url: str, name: str) -> bool:
    """Whether the pool has an online worker of that name."""
    found = post(url, {})
    rows = found if isinstance(found, list) else []
    return any(row.get("name") == name and row.get("status") == "ONLINE" for row in rows)


def post(url: str, body: Mapping[str, object]) -> object:
    """POSTs JSON and returns the JSON response, or None without one."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with DIRECT.open(request, timeout=5) as answer:
            return json.loads(answer.read())
    except (urllib.error.URLError, OSError, ValueError):
        return None
