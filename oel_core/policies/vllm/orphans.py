"""Terminates orphaned vLLM workers: `python orphans.py PARENT SESSION GRACE_S KNOWN...`.

vLLM's in-process engine has worker processes that keep running, and keep GPU memory, when their parent is killed. The
reaper records the processes that the parent starts until the parent reports that all exist, then blocks on its standard
input, whose other end the parent keeps open. End of file without a message means that the parent was killed: its
remaining processes get SIGTERM, and SIGKILL after the grace period. Linux only: processes are held by pidfds, so a
reused process id is never signalled.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection

import psutil

LOOK_EVERY_S = 0.3
GRACE_S = 10.0
ALL_STARTED, GO = b".", b"q"


class WorkerReaper:
    """The parent's side. Start it before the processes that it is to watch."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if hasattr(os, "pidfd_open"):
            own = os.getpid()
            numbers = map(str, (own, os.getsid(own), grace_s, *descendants(own)))
            command = [sys.executable, "-I", __file__, *numbers]  # the file alone: the package takes a while to import
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def all_started(self) -> None:
        """Reports that all processes exist, so the reaper stops looking for new ones."""
        self._send(ALL_STARTED)

    def close(self) -> None:
        """Stops the reaper without signalling any process; further calls do nothing."""
        self._send(GO)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _send(self, word: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(word)
                self._process.stdin.flush()


def descendants(parent: int) -> dict[int, int]:
    """Process id and session of all descendants of a process; empty if it has exited."""
    found = dict[int, int]()
    with contextlib.suppress(psutil.Error, OSError):
        for child in psutil.Process(parent).children(recursive=True):
            with contextlib.suppress(OSError):
                found[child.pid] = os.getsid(child.pid)
    return found


class _Handles:
    """pidfds of the watched processes, by process id."""

    def __init__(self, parent: int, session: int, known: Collection[int]) -> None:
        self._parent, self._session = parent, session
        self._known = {*known, os.getpid()}
        self._held: dict[int, int] = {}

    def look(self) -> None:
        """Adds new descendants of the parent, except those that it started in a session of their own."""
        below = {pid: session for pid, session in descendants(self._parent).items() if pid not in self._known}
        for pid in [*self._held]:  # once the parent is dead, they are not below it any more
            below |= descendants(pid)
        for pid, session in below.items():
            if session == self._session and pid not in self._held:
                with contextlib.suppress(OSError):
                    self._held[pid] = os.pidfd_open(pid)

    def end(self, grace_s: float) -> None:
        """Sends SIGTERM, waits, and sends SIGKILL to what is still running."""
        for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
            until = time.monotonic() + wait_s
            for handle in self._held.values():
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(handle, number)
            while self._living() and time.monotonic() < until:
                time.sleep(0.05)

    def _living(self) -> bool:
        ended, _, _ = select.select([*self._held.values()], [], [], 0)
        return len(ended) < len(self._held)


def main(parent: int, session: int, grace_s: float, known: Collection[int]) -> None:
    """Watches until the standard input is closed."""
    handles, all_started = _Handles(parent, session, known), False
    while True:
        ready, _, _ = select.select([0], [], [], None if all_started else LOOK_EVERY_S)
        said = os.read(0, 1024) if ready else b""
        if GO in said:
            return
        if not all_started:
            handles.look()
        if ready and not said:
            break
        all_started = all_started or ALL_STARTED in said
    handles.end(grace_s)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), [int(word) for word in sys.argv[4:]])
