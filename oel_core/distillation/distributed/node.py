"""One node of a distillation: `python -m oel_core.distillation.distributed.node FOLDER OWN`, started by `launch`.

Torch's elastic agent starts this node's processes and watches them; `peers` watches the other nodes. Nothing is
restarted here: a failure ends the processes of all nodes, and the run resumes from its last checkpoint. FOLDER holds
the job and the invitation, OWN this node's log, errors and report; on node 0, the run's machine, both are the same.
"""

import logging
import signal
import socket
import sys
from pathlib import Path

from torch.distributed import TCPStore
from torch.distributed.elastic.agent.server import WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.api import RunResult
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException

from oel_core.distillation.distributed.failures import REPORT, Failure, Kind, of_ranks
from oel_core.distillation.distributed.peers import BEAT_S, LOST_S, Peers
from oel_core.distillation.distributed.rendezvous import (
    INVITATION,
    FixedNodes,
    Invitation,
    admit,
    connect,
    enter,
    serve,
)
from oel_core.errors import OelError
from oel_core.runs.files import write_atomic
from oel_core.runs.manifest import read_record


class Agent(LocalElasticAgent):
    """An agent that also stops when another node has ended.

    Args:
        spec: the node's processes.
        peers: the other nodes.
        logs: folder for what the agent itself writes.
    """

    def __init__(self, spec: WorkerSpec, peers: Peers, logs: Path) -> None:
        super().__init__(spec, DefaultLogsSpecs(log_dir=str(logs)), exit_barrier_timeout=LOST_S)
        self._peers = peers

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        found: RunResult = super()._monitor_workers(worker_group)
        stops = found.state == WorkerState.HEALTHY and self._peers.ended
        return RunResult(state=WorkerState.FAILED) if stops else found


def main(folder: Path, own: Path) -> int:
    """Takes part in one attempt; 0 if it has succeeded, else 1 and a report in `own`."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the report says it once
    signal.signal(signal.SIGTERM, _stop)  # until the agent has processes to end
    invitation = read_record(folder / INVITATION, Invitation)
    try:
        store, node, hosts = _meet(invitation, first=folder == own)
    except OelError as error:
        return _report(own, Failure(kind=Kind.ERROR, error=type(error).__name__, message=str(error)))
    except SignalException:
        return 1
    peers = Peers(store, node, hosts)
    try:
        failure = _run(store, invitation, peers, folder, own)
        return 0 if failure is None else _report(own, peers.verdict(failure))
    finally:
        peers.close()


def _stop(*_: object) -> None:
    raise SignalException("stopped", signal.SIGTERM)


def _meet(invitation: Invitation, *, first: bool) -> tuple[TCPStore, int, list[str]]:
    """The store, this node's number, and the names of all."""
    if first:
        store = serve(invitation.rendezvous)
        return store, 0, admit(store, invitation)
    store = connect(invitation.rendezvous)
    return store, *enter(store, invitation)


def _run(store: TCPStore, invitation: Invitation, peers: Peers, folder: Path, own: Path) -> Failure | None:
    spec = WorkerSpec(
        role="rank",
        local_world_size=invitation.processes,
        rdzv_handler=FixedNodes(store, peers.node, invitation.nodes, invitation.attempt),
        entrypoint=sys.executable,
        args=("-m", "oel_core.distillation.training.run", str(folder), str(own)),
        max_restarts=0,
        monitor_interval=BEAT_S,
    )
    host = socket.gethostname()
    try:
        result = Agent(spec, peers, own / "agent").run()
    except SignalException:
        message = f"the distillation was stopped on node {peers.node} ({host}), or the program that started it ended"
        return Failure(node=peers.node, kind=Kind.KILLED, message=message)
    if not result.is_failed():
        return None
    return of_ranks(result.failures, peers.node, host, invitation.nodes, own)


def _report(own: Path, failure: Failure) -> int:
    write_atomic(own / REPORT, failure.model_dump_json().encode())
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
