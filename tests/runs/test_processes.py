"""Processes by more than their id, and ending whole groups."""

import os
import signal
import subprocess
import sys
import time

import pytest

from oel_core.runs.processes import (
    end_groups,
    group_lives,
    group_members,
    is_alive,
    process,
    this_process,
    user_name,
)

STUBBORN = (
    "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    'os.write(1, b"1" + bytes([10])); time.sleep(60)'
)


def test_this_process_is_alive_and_its_namesakes_are_not() -> None:
    me = this_process()
    assert is_alive(me) is True
    assert is_alive(me.model_copy(update={"born": "7"})) is False
    assert is_alive(me.model_copy(update={"machine": me.machine.model_copy(update={"boot": "x"})})) is False
    assert is_alive(me.model_copy(update={"machine": me.machine.model_copy(update={"host": "x"})})) is None
    assert is_alive(me.model_copy(update={"machine": me.machine.model_copy(update={"namespace": "x"})})) is None


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen(["sleep", "60"])
    known = process(child.pid)
    assert is_alive(known) is True
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_alive(known) is False
    child.wait()
    assert is_alive(known) is False


def test_a_whole_group_ends_even_if_its_leader_is_gone_and_others_will_not() -> None:
    command = f"{sys.executable} -c '{STUBBORN}' & {sys.executable} -c '{STUBBORN}' & read line; exit 0"
    leader = subprocess.Popen(
        ["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert leader.stdout is not None
    assert leader.stdin is not None
    assert [leader.stdout.readline() for _ in range(2)] == [b"1\n", b"1\n"]
    leader.stdin.close()
    leader.wait()
    assert len(group_members(leader.pid)) == 2
    end_groups([leader.pid], grace_s=0.2)
    until = time.monotonic() + 20
    while group_lives(leader.pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not group_lives(leader.pid)


def test_a_user_without_a_name_goes_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", unknown)
    assert user_name() == f"uid {os.getuid()}"
