"""Process groups: their running members, and how a whole group is terminated."""

import os
import signal
import time
from collections.abc import Iterable

import psutil

POLL_S, KILL_S = 0.05, 5.0
"""Polling interval of a group, and time-out after SIGKILL, seconds."""
ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


def group_members(group: int) -> list[int]:
    """Ids of the running processes of a process group, without zombies."""
    return [pid for pid in psutil.pids() if _is_member(pid, group)]


def group_is_running(group: int) -> bool:
    """Whether a process group has a running member. Without /proc a zombie counts as one."""
    try:
        return bool(group_members(group))
    except OSError:
        return _signal(group, 0)


def end_groups(groups: Iterable[int], *, grace_s: float) -> None:
    """Sends SIGTERM to every process of the groups, and SIGKILL to those still running after `grace_s` seconds.

    Returns when none is running, or `KILL_S` seconds after the SIGKILL. The caller must still wait for its own
    children.
    """
    living = list(groups)
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_S)):
        living = [group for group in living if _signal(group, number)]
        until = time.monotonic() + wait_s
        while (living := [group for group in living if group_is_running(group)]) and time.monotonic() < until:
            time.sleep(POLL_S)


def _is_member(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) == group and psutil.Process(pid).status() not in ENDED
    except (OSError, psutil.Error):
        return False


def _signal(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
