"""A lease on a run: which process works on it, on which machine, since when. The lease of a dead process is taken over.

The operating-system lock of `oel_core.runs.locks` is released when its holder exits, but excludes processes of one
machine only. The lease works across machines. On the holder's own machine a dead process is recognised at once; on
another machine it counts as dead when its heartbeat has not changed for `STALE_S` seconds of the observer's monotonic
clock. No two clocks are compared, so a clock change neither frees a lease nor keeps one.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

from oel_core.errors import ArtifactError, BusyError
from oel_core.runs.files import write_atomic
from oel_core.runs.locks import exclusive_after_wait
from oel_core.runs.manifest import read_record
from oel_core.runs.processes import Process, is_alive, this_process
from oel_core.types import Record

BEAT_S = 5.0
STALE_S = 60.0
POLL_S = 0.5


class Lease(Record):
    """`lease.json`: exists while a process holds the lease, and after a kill until another process takes it over."""

    id: str
    holder: Process
    purpose: str
    since: float
    """Seconds since 1970; for display only."""
    beats: int = 0
    """Heartbeat counter; increases while the holder is running."""


Waiting = Callable[[Lease], None]
"""Called once if the caller has to wait, with the current lease."""


def ignore_wait(lease: Lease) -> None:
    """An `on_wait` that does nothing."""


def read_lease(path: Path) -> Lease | None:
    """The current lease, whoever holds it; None if there is none."""
    try:
        return read_record(path, Lease)
    except ArtifactError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def describe(lease: Lease) -> str:
    """The holder as text."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(lease.since))
    return f"process {lease.holder.pid} on {lease.holder.machine.host} since {since} ({lease.purpose})"


@contextmanager
def held(path: Path, purpose: str, *, wait_s: float = 0.0, on_wait: Waiting = ignore_wait) -> Iterator[Lease]:
    """Holds the lease `path` during the block; takes over the lease of a dead process.

    Waits up to `wait_s` seconds for a live holder. A holder on another machine is observed until its heartbeat changes
    or has not changed for `STALE_S` seconds; only then is it known whether it is alive.

    Raises:
        BusyError: a live process holds the lease and did not release it in time.
    """
    own = acquire(path.parent, partial(_try, path), purpose, wait_s=wait_s, on_wait=on_wait)
    stop = threading.Event()
    renewal = threading.Thread(target=_renew, args=(path, own, stop), daemon=True)
    renewal.start()
    try:
        yield own
    finally:
        stop.set()
        renewal.join()
        _release(path, own)


def remove_own_lease(path: Path) -> None:
    """Removes the lease if this process holds it; for a process that exits without leaving the `held` block."""
    current = read_lease(path)
    if current is not None and current.holder == this_process():
        path.unlink(missing_ok=True)


def is_dead(lease: Lease, observer: "HeartbeatObserver") -> bool:
    """Whether the holder is known to be dead."""
    alive = is_alive(lease.holder)
    return observer.unchanged_s(lease) >= STALE_S if alive is None else not alive


class HeartbeatObserver:
    """Measures how long a lease's heartbeat has not changed, by this process's monotonic clock."""

    def __init__(self) -> None:
        self._seen: tuple[str, int] | None = None
        self._since = 0.0
        self.has_changed = False
        """Whether a heartbeat was observed, so the holder is alive."""

    def unchanged_s(self, lease: Lease) -> float:
        """Seconds since the first observation of the lease's current state."""
        now = time.monotonic()
        if self._seen != (lease.id, lease.beats):
            self.has_changed = self._seen is not None
            self._seen, self._since = (lease.id, lease.beats), now
        return now - self._since


Attempt = Callable[[Lease, HeartbeatObserver], Lease | None]
"""Takes the lease for its first argument and returns None, or returns the lease of a live holder."""


def acquire(
    place: Path | str,
    attempt: Attempt,
    purpose: str,
    *,
    wait_s: float,
    on_wait: Waiting = ignore_wait,
    poll_s: float = POLL_S,
) -> Lease:
    """A new lease of this process, once `attempt` succeeds; errors as `held`, naming `place`.

    `poll_s`: pause between attempts, seconds.
    """
    own = Lease(id=uuid.uuid4().hex, holder=this_process(), purpose=purpose, since=time.time())
    until, observer, reported = time.monotonic() + wait_s, HeartbeatObserver(), False
    while True:
        other = attempt(own, observer)
        if other is None:
            return own
        undecided = is_alive(other.holder) is None and not observer.has_changed
        if time.monotonic() >= until and not undecided:
            raise BusyError(f"{place} is in use by {describe(other)}: wait for it, stop it, or use another run name")
        if not reported:
            on_wait(other)
            reported = True
        time.sleep(poll_s)


def _try(path: Path, own: Lease, observer: HeartbeatObserver) -> Lease | None:
    """Takes the lease, or returns the current one. The lock makes check and write one atomic operation."""
    with _critical(path):
        other = read_lease(path)
        if other is not None and not is_dead(other, observer):
            return other
        write_atomic(path, own.model_dump_json(indent=1).encode())
        return None


def _renew(path: Path, own: Lease, stop: threading.Event) -> None:
    """Renews the lease, unless another process has taken it. A full disk must not stop the holder's work."""
    beats = 0
    while not stop.wait(BEAT_S):
        beats += 1
        with suppress(OSError, ArtifactError), _critical(path):
            current = read_lease(path)
            if current is not None and current.id == own.id:
                write_atomic(path, own.model_copy(update={"beats": beats}).model_dump_json(indent=1).encode())


def _release(path: Path, own: Lease) -> None:
    with suppress(OSError, ArtifactError), _critical(path):
        current = read_lease(path)
        if current is not None and current.id == own.id:
            path.unlink()


def _critical(path: Path) -> AbstractContextManager[None]:
    """Exclusive access to the lease file for a few milliseconds; waits for other processes."""
    return exclusive_after_wait(path.with_name(f".{path.name}.lock"), pause_s=0.01, longest_s=10)
