"""Servers end with their parent, however it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

GUARDED = """
import os, pathlib, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
if {stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path({file!r}).write_text(f"{{os.getpid()}} {{child.pid}} ")
time.sleep(600)
"""
STARTER = """
import subprocess, sys, threading, time
def start():
    subprocess.Popen([sys.executable, "-m", "oel_core.runs.guardian", "0.3", *sys.argv[1:]], stdin=subprocess.PIPE)
thread = threading.Thread(target=start)  # which ends at once, as the threads of a flow do
thread.start(); thread.join()
time.sleep(600)
"""


def eventually(true: Callable[[], bool], seconds: float = 60) -> bool:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.05)
    return true()


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def guarded(folder: Path, *, stubborn: bool = False) -> list[str]:
    return [sys.executable, "-c", GUARDED.format(file=str(folder / "pids"), stubborn=stubborn)]


def pids(folder: Path) -> list[int]:
    file = folder / "pids"
    assert eventually(lambda: file.exists() and file.read_text().endswith(" "))
    return [int(word) for word in file.read_text().split()]


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize("stubborn", [False, True])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_group_ends_with_its_starter_and_not_with_a_thread_of_it(
    tmp_path: Path, number: signal.Signals, stubborn: bool
) -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER, *guarded(tmp_path, stubborn=stubborn)])
    inside = pids(tmp_path)
    time.sleep(0.3)
    assert all(map(lives, inside))
    starter.send_signal(number)
    starter.wait()
    assert eventually(lambda: not any(map(lives, inside)))


def start(command: list[str]) -> subprocess.Popen[bytes]:
    whole = [sys.executable, "-m", "oel_core.runs.guardian", "0.3", *command]
    return subprocess.Popen(whole, stdin=subprocess.PIPE)


@pytest.mark.parametrize("how", ["closed", "terminated"])
def test_the_group_ends_when_asked_to(tmp_path: Path, how: str) -> None:
    guardian = start(guarded(tmp_path))
    inside = pids(tmp_path)
    if how == "closed":
        assert guardian.stdin is not None
        guardian.stdin.close()
    else:
        guardian.terminate()
    guardian.wait(timeout=60)
    assert not any(map(lives, inside))


def test_a_killed_guardian_takes_the_server_with_it(tmp_path: Path) -> None:
    guardian = start(guarded(tmp_path))
    server, child = pids(tmp_path)
    guardian.kill()
    guardian.wait()
    assert eventually(lambda: not lives(server))
    os.kill(child, signal.SIGKILL)


def test_the_commands_end_and_status_are_the_guardians() -> None:
    guardian = start([sys.executable, "-c", "raise SystemExit(3)"])
    assert guardian.wait(timeout=60) == 3
    assert guardian.stdin is not None
    guardian.stdin.close()
