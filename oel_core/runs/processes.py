"""Telling processes apart, on this machine and across restarts: a process id alone is soon another process's.

A process is named by its id and by when it was born, in ticks since the machine started, so a clock that jumps does
not matter. A machine is named by its host name, the id of this start of it, and the namespace its process ids mean
something in (containers of one host share the first two).
"""

import getpass
import os
import signal
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from oel_core.types import Record

PROC = Path("/proc")


class Machine(Record):
    """One start of one machine, as its processes see it."""

    host: str
    boot: str
    """Empty where the system does not tell."""
    namespace: str = ""


class Process(Record):
    """One process of one machine."""

    machine: Machine
    pid: int
    born: str
    """Ticks since the machine started; empty where the system does not tell."""


def this_machine() -> Machine:
    """The machine this process runs on."""
    return Machine(host=socket.gethostname(), boot=_boot_id(), namespace=_namespace())


def this_process() -> Process:
    """The calling process."""
    return process(os.getpid())


def process(pid: int) -> Process:
    """A process of this machine by its id."""
    return Process(machine=this_machine(), pid=pid, born=born(pid))


def _boot_id() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink(PROC / "self/ns/pid")
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the command's name, state first; empty when there is no such process."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def user_name() -> str:
    """The user this process belongs to, by number where the system has no name for it, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def born(pid: int) -> str:
    """When a process started, in ticks since the machine did; empty when it is gone or the system does not tell."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""


def is_alive(one: Process) -> bool | None:
    """Whether the process still runs; None when that cannot be told from here, because it is another machine's.

    A process of an earlier start of this machine is dead. One that has ended but was not waited for (a zombie) is too.
    """
    here = this_machine()
    if one.machine.host != here.host or one.machine.namespace != here.namespace:
        return None
    if one.machine.boot != here.boot:
        return False
    fields = _stat(one.pid)
    if fields:
        return fields[0] not in "ZX" and one.born in ("", fields[19])
    return False if PROC.is_dir() and (PROC / "self").exists() else _answers(one.pid)


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def group_members(group: int) -> list[int]:
    """Ids of the living processes of a process group."""
    found = []
    for entry in PROC.glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if len(fields) > 2 and fields[2] == str(group) and fields[0] not in "ZX":
            found.append(int(entry.name))
    return found


def group_lives(group: int) -> bool:
    """Whether a process group has a living member."""
    return bool(group_members(group)) if (PROC / "self").exists() else _signal(group, 0)


def end_groups(groups: Iterable[int], *, grace_s: float) -> None:
    """Asks every process of the groups to end, and kills those that have not after `grace_s` seconds."""
    waiting = [group for group in groups if _signal(group, signal.SIGTERM)]
    until = time.monotonic() + grace_s
    while waiting and time.monotonic() < until:
        time.sleep(0.05)
        _reap()
        waiting = [group for group in waiting if group_lives(group)]
    for group in waiting:
        _signal(group, signal.SIGKILL)
    _reap()


def _signal(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _reap() -> None:
    """Waits for children of this process that have ended; without it they stay as zombies of their group."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
