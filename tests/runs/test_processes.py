"""Identification of processes, and termination of process groups."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from oel_core.runs.groups import end_groups, group_is_running, group_members
from oel_core.runs.processes import is_alive, process, this_process, user_name

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


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_start_time_is_the_kernels_own_and_no_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    assert this_process().born == started
    boot = psutil.boot_time()
    readings = iter([boot - 3600, boot, boot, boot])
    monkeypatch.setattr("psutil.boot_time", lambda: next(readings))  # the clock is set in between
    assert this_process().born == started


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux numbers threads as processes")
def test_a_thread_with_the_id_is_not_the_process() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    assert thread.native_id is not None
    try:
        assert is_alive(this_process().model_copy(update={"pid": thread.native_id})) is False
    finally:
        stop.set()
        thread.join()


def test_a_process_that_may_not_be_looked_at_is_alive_while_its_id_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(["sleep", "60"])
    known = process(child.pid)
    for error in (psutil.AccessDenied(child.pid), FileNotFoundError("/proc/stat")):

        def refuse(pid: int, error: Exception = error) -> psutil.Process:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr("psutil.Process", refuse)
            patch.setattr("oel_core.runs.processes.PROC", Path("/proc-is-not-mounted"))
            patch.setattr("oel_core.runs.processes.this_machine", lambda: known.machine)
            assert is_alive(known) is True
    child.kill()
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
    assert not group_is_running(leader.pid)


def test_a_group_without_proc_is_asked_by_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    def unmounted() -> list[int]:
        raise FileNotFoundError("/proc")

    monkeypatch.setattr("psutil.pids", unmounted)
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    assert group_is_running(child.pid)
    child.kill()
    child.wait()
    assert not group_is_running(child.pid)


def test_a_user_without_a_name_goes_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", unknown)
    assert user_name() == f"uid {os.getuid()}"
