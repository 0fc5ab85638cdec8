"""`python -m oel_core.runs.guardian GRACE_S COMMAND...`: a command that does not outlive who started it.

The guardian runs the command in a process group of its own and reads its standard input, the other end of which the
starter holds open. When that end closes, because the starter says so or has died of whatever cause (kill -9 too), the
whole group is asked to end and killed after the grace. When the command ends by itself, so does the guardian, with
its exit status. A parent-death signal alone would not do: it comes when the starting *thread* ends.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def guarded(command: Sequence[str], grace_s: float) -> list[str]:
    """The command behind a guardian, to be started with a pipe as its standard input."""
    return [sys.executable, "-m", "oel_core.runs.guardian", str(grace_s), *command]


def die_with_parent() -> None:
    """The calling process is killed when the thread that started it ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end_group(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Asks every process of the group to end, waits, and kills what is left."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        until = time.monotonic() + wait_s
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            return
        while time.monotonic() < until:
            process.poll()  # so that the leader does not stay as a zombie of its own group
            if not _group_lives(process.pid):
                return
            time.sleep(0.05)


def _stop(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def main(grace_s: float, command: list[str]) -> int:
    """Runs the command until it ends or the standard input closes; its exit status."""
    signal.signal(signal.SIGTERM, _stop)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent)

    def watch() -> None:
        while os.read(0, 1024):
            pass
        end_group(process, grace_s)

    threading.Thread(target=watch, daemon=True).start()
    try:
        status = process.wait()
    finally:
        end_group(process, grace_s)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
