"""Flow runs that a kill left in the state Running: Prefect cannot know that their process is gone.

Whoever holds the lease of a run folder is its only process, so every earlier flow run noted there has ended. And
`oel up` looks for the processes of all flow runs that are said to be running on this machine.
"""

from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled, Crashed, State

from oel_core.artifacts import RunFolder
from oel_core.files import write_atomic
from oel_core.manifest import read_record
from oel_core.processes import Process, is_alive, this_process
from oel_core.types import Record

NOTE, PROCESS = "prefect.json", "oel.process"
OPEN_STATES = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
RUNNING = FlowRunFilterState(type=FlowRunFilterStateType(any_=OPEN_STATES))


class NotedFlowRun(Record):
    """`prefect.json` in a run folder."""

    flow_run_id: str
    """Of the loop that last worked on the folder."""


def take_over(run: RunFolder, flow_run_id: str) -> None:
    """Marks what an earlier, killed loop left running as crashed, and notes the present one. Call it locked."""
    path = run.path / NOTE
    if path.exists():
        noted: NotedFlowRun = read_record(path, NotedFlowRun)
        with get_client(sync_client=True) as client:
            loops = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(noted.flow_run_id)]), state=RUNNING)
            for loop in client.read_flow_runs(flow_run_filter=loops):
                _crash(client, loop)
    write_atomic(path, NotedFlowRun(flow_run_id=flow_run_id).model_dump_json().encode())


def say_who(flow_run_id: str) -> None:
    """Notes with the flow run which process it is, so that `mark_dead` can tell when it is gone."""
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(UUID(flow_run_id))
        labels = {**(found.labels or {}), PROCESS: this_process().model_dump_json()}
        client.update_flow_run_labels(found.id, labels)


def mark_dead(*, nothing_ran: bool) -> list[str]:
    """Marks flow runs as crashed, or as cancelled where that was asked for, whose process is gone; returns names.

    `nothing_ran`: no process of any worker was alive, so a run that never came to say who it is has died too.
    """
    marked = []
    with get_client(sync_client=True) as client:
        for found in client.read_flow_runs(flow_run_filter=FlowRunFilter(state=RUNNING)):
            noted = (found.labels or {}).get(PROCESS)
            if noted is None:
                dead = nothing_ran and found.deployment_id is not None
            else:
                dead = is_alive(Process.model_validate_json(str(noted))) is False
            if dead:
                _crash(client, found)
                marked.append(found.name)
    return marked


def _crash(client: SyncPrefectClient, flow_run: FlowRun) -> None:
    """The flow run and everything under it."""
    children = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run.id]), state=RUNNING)
    for child in client.read_flow_runs(flow_run_filter=children):
        _crash(client, child)
    asked = flow_run.state is not None and flow_run.state.is_cancelling()
    ended: State[Any] = Cancelled() if asked else Crashed(message="its process was killed")
    client.set_flow_run_state(flow_run.id, ended, force=True)
