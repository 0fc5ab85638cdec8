"""The claim on a stored run: which process, on whichever machine, works on it.

The claim is a series of numbered objects `lease/<number>.json`, each created on condition that it does not exist. The
highest number counts: its holder renews the claim by creating the next one, and releases it by creating one without a
holder. Another process takes a dead holder's claim over in the same way, so of two that try only one succeeds. Who has
created an object looks at the numbers again, since older objects are removed and a slow process could create one of
those. This needs no operation but conditional creation, which all stores have; replacing an object on condition of its
version (`If-Match`) is not available through fsspec.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from oel_core.errors import ArtifactError, BusyError, StoreError
from oel_core.runs.lease import HeartbeatObserver, Lease, Waiting, acquire, describe, ignore_wait, is_dead
from oel_core.runs.stored.objects import ObjectStore
from oel_core.types import Record

FOLDER = "lease"
BEAT_S = 10.0
"""Time between renewals, seconds; a holder on another machine counts as dead after `lease.STALE_S` without one."""
POLL_S = 2.0


class Entry(Record):
    """One object of the series."""

    lease: Lease | None
    """None: released."""
    id: str
    """Of the process that created the object."""


class Claim:
    """The claim on the run `run` of a store. Methods raise StoreError when the store does not answer."""

    def __init__(self, store: ObjectStore, run: str) -> None:
        self.store, self.folder = store, f"{run}/{FOLDER}"
        self._own: Lease | None = None
        self._number = 0
        self._lock = threading.Lock()

    def current(self) -> tuple[int, Lease | None]:
        """The highest number, 0 if there is none, and its holder.

        Raises:
            ArtifactError: the object is damaged.
        """
        while True:
            number = max(self._numbers(), default=0)
            if not number:
                return 0, None
            data = self.store.read(self._path(number))
            if data is None:
                continue  # removed since: there is a higher one
            try:
                return number, Entry.model_validate_json(data).lease
            except ValueError as error:
                place = self.store.place(self._path(number))
                raise ArtifactError(f"{place} is damaged: remove it if no process works on the run") from error

    def age_s(self, number: int) -> float:
        """Seconds since an object of the series was created, by this machine's clock."""
        return self.store.age_s(self._path(number))

    def require(self) -> None:
        """Raises BusyError if another process has taken the claim over, as after a long suspension of this machine."""
        with self._lock:
            number, holder = self.current()
            if self._own is not None and holder is not None and holder.id == self._own.id:
                self._number = number  # higher than noted if the answer to a renewal was lost
                return
            by = "nobody holds it now" if holder is None else f"it is held by {describe(holder)}"
            raise BusyError(
                f"{self.store.place(self.folder)}: this process was silent for so long that its claim on the run was "
                f"taken over; {by}. Run the same command again when the run is free"
            )

    def attempt(self, own: Lease, observer: HeartbeatObserver) -> Lease | None:
        """As `lease.Attempt`."""
        with self._lock:
            number, other = self.current()
            if other is not None and not is_dead(other, observer):
                return other
            if self._create(number + 1, own):
                self._own = own
                return None
        return self.current()[1] or self.attempt(own, observer)

    def renew(self) -> bool:
        """Renews the claim; False if it was lost."""
        with self._lock:
            if self._own is None:
                return False
            renewed = self._own.model_copy(update={"beats": self._own.beats + 1})
            self._own = renewed if self._create(self._number + 1, renewed) else None
            return self._own is not None

    def release(self) -> None:
        """Releases the claim, if this process still holds it."""
        with self._lock:
            if self._own is not None:
                self._create(self._number + 1, None)
            self._own = None

    def forget(self) -> None:
        """Removes all objects of the series, for a run that was removed."""
        with self._lock:
            self._own = None
            self.store.delete([self._path(number) for number in sorted(self._numbers())])

    def _create(self, number: int, lease: Lease | None) -> bool:
        """Creates an object and removes the older ones; False if another process was faster."""
        creator = lease.id if lease is not None else self._own.id if self._own is not None else ""
        data = Entry(lease=lease, id=creator).model_dump_json(indent=1).encode()
        if not self.store.create(self._path(number), data):
            return False
        numbers = self._numbers()
        if max(numbers, default=number) != number:
            self.store.delete([self._path(number)])
            return False
        self._number = number
        self.store.delete([self._path(old) for old in sorted(numbers) if old < number])
        return True

    def _numbers(self) -> list[int]:
        names = (name.removesuffix(".json") for name in self.store.entries(self.folder))
        return [int(name) for name in names if name.isdecimal()]

    def _path(self, number: int) -> str:
        return f"{self.folder}/{number:012d}.json"


@contextmanager
def claimed(claim: Claim, purpose: str, *, wait_s: float = 0.0, on_wait: Waiting = ignore_wait) -> Iterator[None]:
    """Holds the claim during the block and renews it; waits and raises as `lease.held`.

    Raises:
        StoreError: the store has no conditional creation, or does not answer.
    """
    claim.store.require_conditions(claim.folder)
    place = claim.store.place(claim.folder.removesuffix(f"/{FOLDER}"))
    acquire(place, claim.attempt, purpose, wait_s=wait_s, on_wait=on_wait, poll_s=POLL_S)
    stop = threading.Event()
    renewal = threading.Thread(target=_renew, args=(claim, stop), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        stop.set()
        renewal.join()
        with suppress(StoreError):  # it expires
            claim.release()


def _renew(claim: Claim, stop: threading.Event) -> None:
    """A store that does not answer for a while must not stop the holder's work."""
    while not stop.wait(BEAT_S):
        with suppress(StoreError, ArtifactError):
            if not claim.renew():
                return
