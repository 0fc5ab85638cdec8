"""`python -m oel_core.runs.guardian GRACE_S COMMAND...`: a parent-death watchdog around a command.

It runs the command in a process group of its own and reads its standard input, whose other end the parent keeps open.
When that end is closed, on purpose or because the parent exited (SIGKILL included), the group gets SIGTERM, and SIGKILL
after the grace period. When the command exits, the watchdog exits with its status. A parent-death signal alone is not
enough: it is sent when the parent *thread* ends.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence

from oel_core.runs.groups import end_groups

_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """A free TCP port of the loopback interface, for a server that is started next."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def guarded(command: Sequence[str], grace_s: float) -> list[str]:
    """The command line that runs `command` under the watchdog; start it with a pipe as its standard input."""
    return [sys.executable, "-m", "oel_core.runs.guardian", str(grace_s), *command]


def die_with_parent() -> None:
    """Sets PR_SET_PDEATHSIG: SIGKILL when the thread that started the calling process ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _stop(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def main(grace_s: float, command: list[str]) -> int:
    """Runs the command until it ends or the standard input closes; its exit status."""
    signal.signal(signal.SIGTERM, _stop)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent)

    def watch() -> None:
        while os.read(0, 1024):
            pass
        end_groups([process.pid], grace_s=grace_s)

    threading.Thread(target=watch, daemon=True).start()
    try:
        status = process.wait()
    finally:
        end_groups([process.pid], grace_s=grace_s)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
