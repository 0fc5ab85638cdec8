"""A lease on a project: who works on it, on which machine, since when; taken over when its holder is dead.

The operating-system lock of `oel_core.runs.locks` dies with its holder but holds on one machine only. The lease says
more and reaches further: on the holder's own machine a dead process is known at once; from another machine it counts as
dead when its heartbeat has stood still for `STALE_S` seconds of the watcher's own monotonic clock. No two clocks are
ever compared, so a clock that jumps neither frees a lease nor keeps one.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from oel_core.errors import ArtifactError, BusyError
from oel_core.runs.files import write_atomic
from oel_core.runs.locks import exclusive
from oel_core.runs.manifest import read_record
from oel_core.runs.processes import Process, is_alive, this_process
from oel_core.types import Record

BEAT_S = 5.0
STALE_S = 60.0
POLL_S = 0.5


class Lease(Record):
    """`lease.json`: exists while somebody works, and after a kill until the next one takes over."""

    id: str
    holder: Process
    purpose: str
    since: float
    """Seconds since 1970, for people only."""
    beats: int = 0
    """Grows while the holder lives."""


Waiting = Callable[[Lease], None]
"""Called once when somebody has to wait, with the lease that is in the way."""


def say_nothing(lease: Lease) -> None:
    """The `on_wait` of a caller who does not look."""


def read_lease(path: Path) -> Lease | None:
    """The lease as it stands, whoever holds it; None when there is none."""
    try:
        return read_record(path, Lease)
    except ArtifactError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def describe(lease: Lease) -> str:
    """Who holds it, in words."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(lease.since))
    return f"process {lease.holder.pid} on {lease.holder.machine.host} since {since} ({lease.purpose})"


@contextmanager
def held(path: Path, purpose: str, *, wait_s: float = 0.0, on_wait: Waiting = say_nothing) -> Iterator[Lease]:
    """Holds the lease `path` for the time of the block; takes over the lease of a dead process.

    Waits up to `wait_s` seconds for a living holder. One on another machine is watched until its heart beats, or has
    stood still for `STALE_S` seconds: only then is it known whether it lives.

    Raises:
        BusyError: somebody alive holds it, and did not let go in time.
    """
    own = _acquire(path, purpose, wait_s, on_wait)
    stop = threading.Event()
    beater = threading.Thread(target=_beat, args=(path, own, stop), daemon=True)
    beater.start()
    try:
        yield own
    finally:
        stop.set()
        beater.join()
        _release(path, own)


def drop_own(path: Path) -> None:
    """Removes the lease if this process holds it, for a process that is about to leave without ending its blocks."""
    current = read_lease(path)
    if current is not None and current.holder == this_process():
        path.unlink(missing_ok=True)


def is_dead(lease: Lease, watch: "Watch") -> bool:
    """Whether the holder is gone, as far as can be known by now."""
    alive = is_alive(lease.holder)
    return watch.stood_still(lease) >= STALE_S if alive is None else not alive


class Watch:
    """How long a lease's heartbeat has stood still, by this process's own clock."""

    def __init__(self) -> None:
        self._seen: tuple[str, int] | None = None
        self._since = 0.0
        self.has_beaten = False
        """Whether a heartbeat was seen, so that the holder lives."""

    def stood_still(self, lease: Lease) -> float:
        """Seconds since the lease last changed under this watch."""
        now = time.monotonic()
        if self._seen != (lease.id, lease.beats):
            self.has_beaten = self._seen is not None
            self._seen, self._since = (lease.id, lease.beats), now
        return now - self._since


def _acquire(path: Path, purpose: str, wait_s: float, on_wait: Waiting) -> Lease:
    own = Lease(id=uuid.uuid4().hex, holder=this_process(), purpose=purpose, since=time.time())
    until, watch, told = time.monotonic() + wait_s, Watch(), False
    while True:
        other = _try(path, own, watch)
        if other is None:
            return own
        undecided = is_alive(other.holder) is None and not watch.has_beaten
        if time.monotonic() >= until and not undecided:
            raise BusyError(
                f"{path.parent} is in use by {describe(other)}: wait for it, stop it, or use another run name"
            )
        if not told:
            on_wait(other)
            told = True
        time.sleep(POLL_S)


def _try(path: Path, own: Lease, watch: Watch) -> Lease | None:
    """Takes the lease, or returns the one in the way. The lock makes looking and taking one step."""
    with _critical(path):
        other = read_lease(path)
        if other is not None and not is_dead(other, watch):
            return other
        write_atomic(path, own.model_dump_json(indent=1).encode())
        return None


def _beat(path: Path, own: Lease, stop: threading.Event) -> None:
    """Renews the lease, but never one that somebody else has taken. A full disk must not end the holder's work."""
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


@contextmanager
def _critical(path: Path) -> Iterator[None]:
    """A few milliseconds alone with the lease file. Whoever comes at the same moment waits for them."""
    lock = path.with_name(f".{path.name}.lock")
    until = time.monotonic() + 10
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(exclusive(lock))
                break
            except BusyError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)
        yield
