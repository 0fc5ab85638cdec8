"""Prefect without a server: a temporary API on SQLite under the run root, unless one is configured or `oel up` runs.

Prefect would start one by itself, but that one survives a SIGKILL of its parent. This one runs under a guardian
process, so it ends with its parent, and it starts (some 10 seconds) while Prefect is being imported here. Use it before
that import.
"""

import atexit
import os
import subprocess
import time
from pathlib import Path

from flows.services.client import join_services, use_tracking
from flows.services.servers import UpSettings, prefect_server
from oel_core.errors import OelError
from oel_core.runs.folder import require_root
from oel_core.runs.guardian import free_port, guarded

START_S = 180.0
"""Start timeout, seconds; long enough for a busy machine."""
GRACE_S = 0.5
"""Grace period before SIGKILL, seconds; short, because the database survives a kill."""
OWN = ("PREFECT_HOME", "PREFECT_SERVER_MEMO_STORE_PATH")
"""Paths that the user may have configured."""
BARE = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
"""As Prefect starts its own: neither a UI nor background services."""

_server: subprocess.Popen[bytes] | None = None


def use_local_services(root: Path, *, verbose: bool) -> None:
    """Points Prefect at `root`/.prefect. An API that the user configured is left alone.

    The logs of Prefect and MLflow go to the console only if `verbose`: the command line itself shows progress and
    errors.

    Raises:
        ConfigError: this root is tracked in PostgreSQL, and its address is not known; or as `require_root`.
    """
    require_root(root)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO" if verbose else "CRITICAL")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "INFO" if verbose else "WARNING")
    use_tracking(root)
    if os.environ.get("PREFECT_API_URL") or join_services(root):
        return
    home = (root / ".prefect").resolve()
    home.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PREFECT_HOME", str(home))
    os.environ.setdefault("PREFECT_SERVER_MEMO_STORE_PATH", str(home / "memo_store.toml"))


def start_temporary_server(root: Path) -> None:
    """Starts the temporary API, if none is configured, and points Prefect at it. `wait_until_ready` comes next."""
    global _server
    if os.environ.get("PREFECT_API_URL"):
        return
    service = prefect_server(root.resolve(), UpSettings(prefect_port=free_port()), None)
    settings = {name: value for name, value in service.environment.items() if name not in OWN}
    with _log().open("wb") as log:
        _server = subprocess.Popen(
            guarded(service.command, GRACE_S),
            env={**os.environ, **settings, **BARE},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,  # keeps the terminal's SIGINT from the server
        )
    atexit.register(
        kill_temporary_server
    )  # registered first, so called last, after Prefect has sent its pending events
    os.environ.update({name: settings[name] for name in ("PREFECT_API_URL", "NO_PROXY")})


def wait_until_ready(timeout_s: float = START_S) -> None:
    """Returns when the temporary API answers; at once where another one is configured.

    Raises:
        OelError: it ended, or did not answer in time.
    """
    from flows.services.servers import answers

    if _server is None:
        return
    until = time.monotonic() + timeout_s
    while not answers(f"{os.environ['PREFECT_API_URL']}/health"):
        if time.monotonic() > until or _server.poll() is not None:
            kill_temporary_server()
            raise OelError(
                f"Prefect's temporary API did not start: see {_log()}. Is the machine busy? Run the same command "
                "again, or point PREFECT_API_URL at a server that runs"
            )
        time.sleep(0.1)


def kill_temporary_server() -> None:
    """Terminates the temporary API, if this process has started one. Its database is kept."""
    global _server
    server, _server = _server, None
    if server is None:
        return
    os.environ.pop("PREFECT_API_URL", None)
    if server.stdin is not None:
        server.stdin.close()
    server.wait()


def _log() -> Path:
    return Path(os.environ["PREFECT_HOME"]) / "temporary-server.log"
