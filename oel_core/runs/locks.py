"""An operating-system lock on a run. It is released when its holder exits, so a kill leaves no stale lock."""

import fcntl
import json
import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from oel_core.errors import BusyError


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds the lock file `path` during the block. The file stays; only the lock on it counts.

    Raises:
        BusyError: another process holds it; the message says which.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BusyError(
                f"{path.parent} is in use by {_holder(path)}: wait for it, stop it, or use another run name"
            ) from error
        file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": since}, file)
        file.flush()
        yield


@contextmanager
def exclusive_after_wait(path: Path, *, pause_s: float, longest_s: float = math.inf) -> Iterator[None]:
    """As `exclusive`, but waits for other processes, at most `longest_s`; asks again every `pause_s`, both in seconds.

    Raises:
        BusyError: another process still holds it.
    """
    until = time.monotonic() + longest_s
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(exclusive(path))
                break
            except BusyError:
                if time.monotonic() > until:
                    raise
                time.sleep(pause_s)
        yield


def is_held(path: Path) -> bool:
    """Whether a process holds the lock now."""
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _holder(path: Path) -> str:
    try:
        info = json.loads(path.read_text())
        return f"process {info['pid']} on {info['host']} since {info['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
