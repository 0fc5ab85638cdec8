"""`python -m tests.e2e.sweep ROOT`: waits for its standard input to end, then kills what still runs for a run root.

A file system that is mounted there is unmounted after that. However the tests end (kill -9 too), their end of the pipe
closes. Every process of a root's services, and every flow run, carries the root's path in its environment, which no
other process does.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARKS = ("PREFECT_HOME", "OEL_ROOT")


def leftovers(root: Path) -> list[int]:
    """Ids of the processes that were started for `root` and still run."""
    marks = [f"{name}={root}".encode() for name in MARKS]
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            values = (entry / "environ").read_bytes().split(b"\0")
            if any(value == mark or value.startswith(mark + b"/") for mark in marks for value in values):
                found.append(int(entry.name))
    return found


def sweep(root: Path) -> list[int]:
    """Kills them, again and again until none is left, and returns whom it found at first."""
    first = leftovers(root)
    until = time.monotonic() + 20
    while (left := leftovers(root)) and time.monotonic() < until:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    return first


def unmount(root: Path) -> None:
    """Takes away the file system that is mounted at the root, if one is."""
    if os.path.ismount(root):
        subprocess.run(["umount", "--lazy", str(root)], check=False)


@contextmanager
def swept(root: Path) -> Iterator[None]:
    """Nothing that is started for `root` within the block, nor what is mounted there, outlives this process."""
    command = [sys.executable, "-m", "tests.e2e.sweep", str(root)]
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        guard.communicate()


if __name__ == "__main__":
    sys.stdin.buffer.read()
    sweep(Path(sys.argv[1]))
    unmount(Path(sys.argv[1]))
