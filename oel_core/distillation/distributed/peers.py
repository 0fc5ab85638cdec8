"""How the nodes of a distillation know of each other: heartbeats and the reasons of an end, through their store.

A rank that is gone breaks or blocks the communication of all others, on a GPU possibly for minutes. So each node
watches the others, stops when one has failed or is lost, and all give the same reason: the first cause, not the errors
that follow from it.
"""

import logging
import threading
import time
from collections.abc import Sequence

from pydantic import ValidationError
from torch.distributed import Store, TCPStore

from oel_core.distillation.distributed.failures import Failure, Kind

logger = logging.getLogger(__name__)
BEAT_S, LOST_S, _ACK_S = 0.5, 20.0, 3.0
"""Interval of heartbeats; after how long without one a node is lost; how long node 0 stays for the others to read."""


class Peers:
    """The other nodes, as one node sees them; `close` ends the watching.

    Args:
        store: of all nodes.
        node: number of this one; node 0 serves the store.
        hosts: names of all nodes.
    """

    def __init__(self, store: TCPStore, node: int, hosts: Sequence[str]) -> None:
        self.node, self.hosts = node, hosts
        self._others = [other for other in range(len(hosts)) if other != node]
        self._own, self._watched = store, store.clone()  # type: ignore[attr-defined]  # a client is used by one thread
        now = time.monotonic()
        self._seen = dict.fromkeys(self._others, (b"", now))
        self._connected = now
        self._ends: dict[int, Failure] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=LOST_S)

    @property
    def ended(self) -> bool:
        """Whether another node has failed or is lost."""
        return bool(self._found())

    def verdict(self, own: Failure) -> Failure:
        """Tells the others why this node has ended, waits for their reasons, and returns the cause of all."""
        self._tell(f"end/{self.node}", own.model_dump_json())
        until = time.monotonic() + 2 * LOST_S
        while len(found := self._found()) < len(self._others) and time.monotonic() < until:
            time.sleep(BEAT_S / 5)
        self._leave(found)
        return max([own, *found.values()], key=lambda failure: (failure.kind, -failure.node))

    def _leave(self, found: dict[int, Failure]) -> None:
        """Node 0 serves the store, so it stays until the others have read, but not for long."""
        self._tell(f"left/{self.node}", "1")
        until = time.monotonic() + _ACK_S
        expected = [f"left/{other}" for other in self._others if found[other].kind != Kind.LOST] if found else []
        while self.node == 0 and expected and time.monotonic() < until and not self._own.check(expected):
            time.sleep(BEAT_S / 5)

    def _tell(self, key: str, value: str) -> None:
        try:
            self._own.set(key, value)
        except RuntimeError:  # node 0 is lost, and nobody can be told
            self._mark_lost(0)

    def _found(self) -> dict[int, Failure]:
        """Ends of other nodes by node."""
        now = time.monotonic()
        silent = [other for other, (_, since) in self._seen.items() if now - since > LOST_S]
        if self.node != 0 and now - self._connected > LOST_S:  # the store does not answer, not even with an error
            silent.append(0)
        for other in silent:
            self._mark_lost(other)
        return dict(self._ends)

    def _mark_lost(self, other: int) -> None:
        where = self.hosts[other]
        self._ends.setdefault(
            other,
            Failure(
                node=other,
                kind=Kind.LOST,
                message=f"node {other} ({where}) is lost: its launcher was killed, or the machine or network failed. "
                "Repeat the run's command, with all nodes there: it resumes from the last checkpoint",
            ),
        )

    def _watch(self) -> None:
        beats = 0
        while not self._stop.wait(BEAT_S):
            beats += 1
            try:
                self._watched.set(f"beat/{self.node}", str(beats))
                for other in self._others:
                    self._look(self._watched, other)
            except RuntimeError:
                if self.node != 0:  # the connection is closed: node 0 has ended
                    self._mark_lost(0)
                return
            except ValidationError as error:  # anything that can connect can write to the store
                logger.warning("a node's report is not readable: %s", error)
            self._connected = time.monotonic()

    def _look(self, store: Store, other: int) -> None:
        if store.check([f"beat/{other}"]) and (beat := store.get(f"beat/{other}")) != self._seen[other][0]:
            self._seen[other] = (beat, time.monotonic())
        if store.check([f"end/{other}"]):
            self._ends[other] = Failure.model_validate_json(store.get(f"end/{other}"))
