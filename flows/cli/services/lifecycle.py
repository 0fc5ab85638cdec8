"""`oel up`, `oel down`, `oel status`: the servers and workers of a run root."""

import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.services.health import health
from flows.cli.shared import RUNS, AsJson, Root, err, out, print_json, print_table

if TYPE_CHECKING:
    from flows.services.servers import UpSettings
    from oel_core.runs.holders import Holder

PREFECT_PORT = Annotated[int | None, typer.Option(help="Port of the Prefect server; 4200 if never given.")]
MLFLOW_PORT = Annotated[int | None, typer.Option(help="Port of the MLflow server; 5000 if never given.")]


def up(
    root: Root = RUNS,
    prefect_port: PREFECT_PORT = None,
    mlflow_port: MLFLOW_PORT = None,
    pool: Annotated[
        list[str] | None, typer.Option(help="Work pool to start a worker for: oel-cpu, oel-gpu. Repeatable.")
    ] = None,
    postgres: Annotated[
        str | None, typer.Option(help="PostgreSQL address instead of SQLite; better given as $OEL_POSTGRES.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 if never given.")] = None,
    expose: Annotated[bool, typer.Option("--expose", help="Allow an address that other machines can reach.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for a service to respond.")] = 300.0,
    as_json: AsJson = False,
) -> None:
    """Start the Prefect server, the MLflow server and the workers; restart those that have exited."""
    from flows.services import control
    from flows.services.client import use_services, use_tracking
    from flows.services.servers import read_settings
    from oel_core.runs.folder import require_root

    require_root(root)
    where = root.resolve()
    before = read_settings(where)
    address = control.postgres_address(postgres, before)
    settings = _settings(before, host, prefect_port, mlflow_port, pool, address is not None)
    nothing_ran = control.no_process_runs(where)
    say = _quiet if as_json else _say
    control.up(where, settings, address, expose=expose, timeout_s=timeout, say=say)
    use_services(where)
    use_tracking(where, address)
    from flows.recovery.abandoned import mark_dead

    for name in mark_dead(where, nothing_ran=nothing_ran):
        say(f"flow run {name}: its process is gone, marked as crashed")
    if as_json:
        print_json([one.model_dump(mode="json") for one in control.status(where)])
        return
    _show_addresses(root, settings)


def _show_addresses(root: Path, settings: "UpSettings") -> None:
    from flows.services.links import all_runs

    where = root.resolve()
    _say(f"UI       {settings.prefect_url}")
    _say(f"MLflow   {all_runs(where, settings.mlflow_url)}")
    _say(f"Data     {where}")
    _say(f"Next     oel deploy --root {root}")


def _settings(
    before: "UpSettings | None",
    host: str | None,
    prefect_port: int | None,
    mlflow_port: int | None,
    pools: list[str] | None,
    postgres: bool,
) -> "UpSettings":
    """Settings of this call, with those of the last call as defaults."""
    from flows.services.servers import POOLS, UpSettings
    from oel_core.errors import ConfigError

    unknown = sorted(set(pools or ()) - set(POOLS))
    if unknown:
        raise ConfigError(f"--pool {unknown[0]}: the pools are {', '.join(POOLS)}")
    given = {"host": host, "prefect_port": prefect_port, "mlflow_port": mlflow_port, "pools": pools and tuple(pools)}
    base = before or UpSettings(pools=default_pools())
    chosen = {name: value for name, value in given.items() if value is not None}
    return UpSettings.model_validate(base.model_dump() | chosen | {"postgres": postgres})


def default_pools() -> tuple[str, ...]:
    """The CPU pool, and the GPU pool if the driver lists a GPU."""
    query = shutil.which("nvidia-smi")
    listed = query and subprocess.run([query, "-L"], capture_output=True, text=True, check=False).stdout
    return ("oel-cpu", "oel-gpu") if listed and "GPU" in listed else ("oel-cpu",)


def down(
    root: Root = RUNS,
    grace: Annotated[float, typer.Option(help="Seconds before remaining processes are killed.")] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Stop everything that `oel up` started. Data are kept; a running round is resumed later."""
    from flows.services import control

    ended = control.down(root.resolve(), grace_s=grace, say=_quiet if as_json else _say)
    if as_json:
        print_json([{"name": name, "state": "ended"} for name in ended])
    elif not ended:
        _say(f"nothing was running for {root}")


def status(
    project: Annotated[
        str | None,
        typer.Argument(metavar="[PROJECT]", help="A project, to show its health instead."),
    ] = None,
    notify: Annotated[bool, typer.Option("--notify", help="Report new alarms, and roll back, as rounds do.")] = False,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Show the state of the services and which process works on which run, or the health of one project.

    Exit code 1 if a service is not healthy, or while an alarm of the project holds.
    """
    from flows.services import control
    from oel_core.errors import ConfigError
    from oel_core.runs.holders import holders

    if project is not None:
        health(root, project, notify, as_json)
        return
    if notify:
        raise ConfigError("--notify needs a project: it reports the alarms of one")
    found, busy = control.status(root.resolve()), holders(root)
    if as_json:
        print_json([one.model_dump(mode="json") for one in (*found, *busy)])
    elif not found:
        _say(f"nothing was started for {root}: oel up --root {root}")
    else:
        rows = [
            (one.name, one.state, str(one.pid or "-"), _age(one.since), one.url, str(Path(one.log))) for one in found
        ]
        print_table("", ("service", "state", "pid", "up", "address", "log"), rows)
    if not as_json:
        for one in busy:
            _say(_holding(one))
    if any(one.state in ("dead", "unhealthy") for one in found):
        err.print("A service is not well: `oel up` starts it again; its log says more.", style="red")
        raise typer.Exit(1)


def _holding(one: "Holder") -> str:
    if one.state == "alive":
        return f"{one.run}: {one.holder}"
    silent = f"no heartbeat for {_age(time.time() - one.silent_s)}"
    why = "exited without releasing the lease" if one.state == "dead" else silent
    return f"{one.run}: not in use ({why}: {one.holder}); the next run or trigger takes over"


def _age(since: float | None) -> str:
    if since is None:
        return "-"
    minutes = int(max(0.0, time.time() - since) // 60)
    return f"{minutes // 60}:{minutes % 60:02d} h"


def _quiet(line: str) -> None:
    """Prints to stderr, for JSON output on stdout."""
    err.print(line, highlight=False, markup=False, soft_wrap=True)


def _say(line: str) -> None:
    out.print(line, highlight=False, markup=False, soft_wrap=True)
