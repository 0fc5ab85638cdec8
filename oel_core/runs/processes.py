"""Identifies processes, on this machine and across restarts; a process id alone is reused by the system.

A process is identified by its id and its start time since boot, which a change of the system clock does not affect. A
machine is identified by its host name, its boot id, and the PID namespace (containers of one host share the first two).
"""

import getpass
import os
import socket
from pathlib import Path

import psutil

from oel_core.runs.groups import ENDED
from oel_core.types import Record

PROC = Path("/proc")
TICKS = 100
"""Resolution of a start time, in parts of a second: Linux counts in 1/100 s."""


class Machine(Record):
    """One boot of one machine, as its processes see it."""

    host: str
    boot: str
    """Linux' boot id; empty on other systems."""
    namespace: str = ""
    """The PID namespace; empty on other systems."""


class Process(Record):
    """One process of one machine."""

    machine: Machine
    pid: int
    born: str
    """Start time in 1/100 s since boot; empty if the process has exited or the system does not provide it."""


def this_machine() -> Machine:
    """The machine this process runs on."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    try:
        namespace = os.readlink(PROC / "self/ns/pid")
    except OSError:
        namespace = ""
    return Machine(host=socket.gethostname(), boot=boot, namespace=namespace)


def this_process() -> Process:
    """The calling process."""
    return process(os.getpid())


def process(pid: int) -> Process:
    """A process of this machine by its id."""
    try:
        born = _started(psutil.Process(pid))
    except (psutil.Error, OSError):
        born = ""
    return Process(machine=this_machine(), pid=pid, born=born)


def user_name() -> str:
    """Name of the user this process belongs to; the number if the system has no name for it, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def is_alive(one: Process) -> bool | None:
    """Whether the process is still running; None for a process of another machine, where this cannot be checked.

    A process of an earlier boot of this machine is dead, and so is a zombie. A process that this user may not inspect,
    as with /proc mounted with `hidepid`, counts as alive while its id is in use.
    """
    here = this_machine()
    if one.machine.host != here.host or one.machine.namespace != here.namespace:
        return None
    if one.machine.boot != here.boot:
        return False
    try:
        found = psutil.Process(one.pid)
        return found.status() not in ENDED and one.born in ("", _started(found))
    except psutil.AccessDenied:
        return True
    except (psutil.Error, OSError):
        return not (PROC / str(one.pid)).exists() and _is_in_use(one.pid)  # a thread has that folder too


def _started(found: psutil.Process) -> str:
    """psutil adds the boot time, which depends on the system clock, to the start time; it is subtracted again."""
    while True:
        boot = psutil.boot_time()
        since_boot = found.create_time() - boot
        if psutil.boot_time() == boot:  # else the clock was set between the two
            return str(round(since_boot * TICKS))
        found = psutil.Process(found.pid)


def _is_in_use(pid: int) -> bool:
    """Whether a process has this id, whichever user it belongs to."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
