"""Flow runs that a kill left in the state Running: Prefect cannot know that their process is gone, the run's lock can.

Whoever holds the lock of a run folder is its only process, so every earlier flow run noted there has ended.
"""

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
from prefect.states import Crashed

from oel_core.artifacts import RunFolder
from oel_core.files import write_atomic
from oel_core.manifest import read_record
from oel_core.types import Record

NOTE = "prefect.json"
RUNNING = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING]))


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


def _crash(client: SyncPrefectClient, flow_run: FlowRun) -> None:
    """The flow run and everything under it."""
    children = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run.id]), state=RUNNING)
    for child in client.read_flow_runs(flow_run_filter=children):
        _crash(client, child)
    client.set_flow_run_state(flow_run.id, Crashed(message="its process was killed"), force=True)
