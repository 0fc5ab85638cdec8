"""`oel cancel`: ends the flow runs or the process of a run. Finished work is kept; the next start resumes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import complete
from flows.cli.shared import RUNS, AsJson, Root, out, print_json

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


def cancel(
    name: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run or project, or a flow run's id.", autocompletion=complete.run_names),
    ],
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Stop the flow runs of a project, or the `oel run` that works on a run on this machine."""
    from oel_core.errors import ConfigError

    rows = _flow_runs(root, name) or _process(root, name)
    if not rows:
        raise ConfigError(f"nothing works on '{name}' and no flow run of it waits: see `oel status --root {root}`")
    if as_json:
        print_json(rows)
        return
    for row in rows:
        out.print(f"{row['what']}: {row['state']}", soft_wrap=True)


def _flow_runs(root: Path, name: str) -> list[dict[str, Any]]:
    """Requests cancellation of every open flow run of this project, where a server runs."""
    import os

    from flows.services.client import join_services, prefect_client

    if not os.environ.get("PREFECT_API_URL") and not join_services(root):
        return []
    with prefect_client() as client:
        return [_ask(client, one) for one in _open(client) if is_about(one, name)]


def _open(client: "SyncPrefectClient") -> list[Any]:
    """Flow runs of deployments in a non-final state."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType

    states = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED]
    chosen = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)))
    return [one for one in client.read_flow_runs(flow_run_filter=chosen) if one.deployment_id is not None]


def is_about(flow_run: Any, name: str) -> bool:
    """Whether a flow run has this id, project or run name. Scheduled future flow runs are excluded."""
    given = flow_run.parameters or {}
    if str(flow_run.id) == name:
        return True
    to_come = flow_run.auto_scheduled and flow_run.state is not None and flow_run.state.is_scheduled()
    return not to_come and name in (given.get("project"), given.get("name"))


def _ask(client: "SyncPrefectClient", flow_run: Any) -> dict[str, Any]:
    from prefect.states import Cancelled, Cancelling, State

    waits = flow_run.state is not None and flow_run.state.is_scheduled()
    message = "asked for with `oel cancel`"
    state: State[Any] = Cancelled(message=message) if waits else Cancelling(message=message)
    client.set_flow_run_state(flow_run.id, state, force=True)
    return {"what": f"flow run {flow_run.name}", "flow_run": str(flow_run.id), "state": state.name}


def _process(root: Path, name: str) -> list[dict[str, Any]]:
    """Sends SIGTERM to the local process that holds the run's lease."""
    import os
    import signal

    from oel_core.errors import ConfigError
    from oel_core.runs.folder import LEASE, RunFolder
    from oel_core.runs.lease import describe, read_lease
    from oel_core.runs.processes import is_alive

    run = RunFolder(root / name)
    lease = read_lease(run.path / LEASE) if run.path.is_dir() else None
    if lease is None or is_alive(lease.holder) is False:
        return []
    if is_alive(lease.holder) is None:
        raise ConfigError(f"{name} is held by {describe(lease)}, which is another machine: cancel it there")
    os.kill(lease.holder.pid, signal.SIGTERM)
    return [{"what": describe(lease), "pid": lease.holder.pid, "state": "asked to end"}]
