"""Prefect without a server: a temporary API on SQLite under the run root, unless one is configured or `oel up` runs.

Must be called before Prefect is imported. Its temporary API takes about 10 seconds to come up.
"""

import os
import sys
from pathlib import Path

from flows.services.client import join_services
from oel_core.errors import OelError

SETTINGS = {
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # a busy machine needs longer than the default 20
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",  # nothing here uses blocks, and registering them takes seconds
}


def use_local_services(root: Path, *, verbose: bool) -> None:
    """Points Prefect at `root`/.prefect. An API that the user configured is left alone.

    The logs of Prefect and MLflow go to the console only if `verbose`: the command line itself shows progress and
    errors.
    """
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO" if verbose else "CRITICAL")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "INFO" if verbose else "WARNING")
    if os.environ.get("PREFECT_API_URL") or join_services(root):
        return
    home = (root / ".prefect").resolve()
    home.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PREFECT_HOME", str(home))
    os.environ.setdefault("PREFECT_SERVER_MEMO_STORE_PATH", str(home / "memo_store.toml"))
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def start_temporary_server() -> None:
    """Starts the temporary API now, so that a machine too busy for it is told in one sentence.

    Raises:
        OelError: it did not answer in time.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value():
        return
    try:
        SubprocessASGIServer().start()
    except RuntimeError as error:
        kill_temporary_server()
        raise OelError(
            f"Prefect's temporary API did not start: {error} Is the machine busy? Run the same command again, raise "
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, or point PREFECT_API_URL at a server that runs"
        ) from error


def kill_temporary_server() -> None:
    """Ends the temporary API at once, if this process has started one. Its database survives that."""
    module = sys.modules.get("prefect.server.api.server")
    process = module.SubprocessASGIServer().server_process if module is not None else None
    if process is not None:
        process.kill()
        process.wait()
