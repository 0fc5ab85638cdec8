"""Which process holds the lease of each run, and whether that process still exists."""

import time
from pathlib import Path
from typing import Literal

from oel_core.runs.folder import LEASE, RunFolder
from oel_core.runs.lease import STALE_S, Lease, describe, read_lease
from oel_core.runs.processes import is_alive
from oel_core.runs.stored.replica import replica_of
from oel_core.types import Record


class Holder(Record):
    """The holder of a run's lease."""

    run: str
    holder: str
    """Process, machine, start time and purpose."""
    state: Literal["alive", "dead", "silent"]
    """`dead`: its process exited without releasing the lease. `silent`: it is on another machine, and its last
    heartbeat is more than `lease.STALE_S` seconds old by this machine's clock."""
    silent_s: float
    """Seconds since the last heartbeat, by this machine's clock."""


def holder_of(run: RunFolder) -> Holder | None:
    """The holder of the run's lease, or of its claim in a store, alive or not; None if there is none.

    Raises:
        ArtifactError: the lease cannot be read.
        StoreError: the store does not answer.
    """
    path = run.path / LEASE
    lease = read_lease(path)
    if lease is not None:
        silent_s = max(0.0, time.time() - path.stat().st_mtime)
    else:
        replica = replica_of(run.path)
        found = None if replica is None else replica.holder()
        if found is None:
            return None
        lease, silent_s = found
    state = _state(lease, silent_s)
    return Holder(run=run.name, holder=describe(lease), state=state, silent_s=round(silent_s, 1))


def holders(root: Path) -> list[Holder]:
    """The holders of all runs under a root, by the run's name."""
    found = (holder_of(RunFolder(path.parent)) for path in sorted(root.glob(f"*/{LEASE}")))
    return [holder for holder in found if holder is not None]


def _state(lease: Lease, silent_s: float) -> Literal["alive", "dead", "silent"]:
    alive = is_alive(lease.holder)
    if alive is None:
        return "silent" if silent_s > STALE_S else "alive"
    return "alive" if alive else "dead"
