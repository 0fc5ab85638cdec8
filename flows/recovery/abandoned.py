"""Marks zombie flow runs: those in the state Running whose process was killed.

The holder of a run folder's lease is its only process, so every earlier flow run recorded there has ended. A flow run
also records its process: by a tag from its creation on if this process creates it, so that it can be recognised as dead
after a kill at any moment, and by a label if a worker starts it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import tags
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

from oel_core.runs.files import write_atomic
from oel_core.runs.folder import LEASE, RunFolder
from oel_core.runs.lease import read_lease
from oel_core.runs.manifest import read_record
from oel_core.runs.processes import Process, is_alive, this_process
from oel_core.types import Record

NOTE, PROCESS = "prefect.json", "oel.process"
TAG = "process "
"""Prefix of a flow run's tag with its process."""
OPEN_STATES = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
RUNNING = FlowRunFilterState(type=FlowRunFilterStateType(any_=OPEN_STATES))


class NotedFlowRun(Record):
    """`prefect.json` in a run folder."""

    flow_run_id: str
    """Flow run of the last loop on the folder."""


@contextmanager
def tagged_with_process() -> Iterator[None]:
    """Flow runs that are created within the block carry this process as a tag."""
    with tags(TAG + this_process().model_dump_json()):
        yield


def take_over(run: RunFolder, flow_run_id: str) -> None:
    """Marks flow runs of killed processes as crashed, and records the present one. Requires the lease."""
    with get_client(sync_client=True) as client:
        _end_noted(client, run)
        _end_dead(client, nothing_ran=False)
    write_atomic(run.path / NOTE, NotedFlowRun(flow_run_id=flow_run_id).model_dump_json().encode())


def cancel_noted(run: RunFolder) -> None:
    """Marks the folder's flow run as cancelled, in a process that exits on an interrupt."""
    with get_client(sync_client=True) as client:
        _end_noted(client, run, asked=True)


def _end_noted(client: SyncPrefectClient, run: RunFolder, *, asked: bool = False) -> list[str]:
    """Marks the recorded flow run and its children, where in the state Running; returns names."""
    path = run.path / NOTE
    if not path.exists():
        return []
    noted = read_record(path, NotedFlowRun)
    loops = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[UUID(noted.flow_run_id)]), state=RUNNING)
    )
    for loop in loops:
        _crash(client, loop, asked=asked)
    return [loop.name for loop in loops]


def end_children(flow_run_id: str) -> None:
    """Marks a flow run's children as cancelled, in a process that is about to exit."""
    with get_client(sync_client=True) as client:
        for child in _children(client, UUID(flow_run_id)):
            _crash(client, child, asked=True)


def record_process(flow_run_id: str) -> None:
    """Records the process in the flow run, so that `mark_dead` can check whether it is alive."""
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(UUID(flow_run_id))
        labels = {**(found.labels or {}), PROCESS: this_process().model_dump_json()}
        client.update_flow_run_labels(found.id, labels)


def mark_dead(root: Path, *, nothing_ran: bool) -> list[str]:
    """Marks flow runs without a live process as crashed, or as cancelled if that was requested; returns names.

    Their MLflow runs are marked as killed. Flow runs recorded in a run folder under `root` without a live lease holder
    are dead too. `nothing_ran`: no process of any worker was alive, so a run without a recorded process is dead too.
    """
    with get_client(sync_client=True) as client:
        marked = _end_dead(client, nothing_ran=nothing_ran)
        for path in sorted(root.glob(f"*/{NOTE}")):
            run, lease = RunFolder(path.parent), read_lease(path.parent / LEASE)
            if lease is None or is_alive(lease.holder) is False:
                marked += _end_noted(client, run)
            if lease is not None and is_alive(lease.holder) is False:
                _end_tracked(run)
    return marked


def _end_dead(client: SyncPrefectClient, *, nothing_ran: bool) -> list[str]:
    """Marks open flow runs without a live process, and their children; returns names of the former."""
    marked = []
    for found in client.read_flow_runs(flow_run_filter=FlowRunFilter(state=RUNNING)):
        process = _process_of(found)
        unknown = nothing_ran and found.deployment_id is not None
        dead = unknown if process is None else is_alive(process) is False
        if dead and found.parent_task_run_id is None:
            _crash(client, found)
            marked.append(found.name)
    return marked


def _process_of(found: FlowRun) -> Process | None:
    noted = (found.labels or {}).get(PROCESS)
    if noted is None:
        noted = next((tag.removeprefix(TAG) for tag in found.tags if tag.startswith(TAG)), None)
    return None if noted is None else Process.model_validate_json(str(noted))


def _end_tracked(run: RunFolder) -> None:
    """Marks MLflow runs of a killed process; imports MLflow only if there are some."""
    from tasks.tracking.client import mark_killed
    from tasks.tracking.settings import load_settings

    mark_killed(load_settings(), run)


def _crash(client: SyncPrefectClient, flow_run: FlowRun, *, asked: bool = False) -> None:
    """Marks the flow run and its children: as cancelled if it or a parent was asked to end, else as crashed."""
    asked = asked or (flow_run.state is not None and flow_run.state.is_cancelling())
    for child in _children(client, flow_run.id):
        _crash(client, child, asked=asked)
    ended: State[Any] = Cancelled(message="asked to end") if asked else Crashed(message="its process was killed")
    client.set_flow_run_state(flow_run.id, ended, force=True)


def _children(client: SyncPrefectClient, flow_run_id: UUID) -> list[FlowRun]:
    above = FlowRunFilterParentFlowRunId(any_=[flow_run_id])
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=above, state=RUNNING))
