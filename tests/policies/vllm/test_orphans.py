"""Orphaned workers are terminated; processes that end normally, and services, are not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oel_core.policies.vllm.orphans import WorkerReaper, descendants
from tests.runs.test_guardian import eventually, lives

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
PARENT = """
import pathlib, signal, subprocess, sys, time
from oel_core.policies.vllm.orphans import WorkerReaper
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
stubborn = [sys.executable, "-c", '''
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
''']
before = subprocess.Popen(sleeper)
reaper = WorkerReaper(grace_s=0.3)
engine = subprocess.Popen(stubborn, stdout=subprocess.PIPE, text=True)
service = subprocess.Popen(sleeper, start_new_session=True)
worker = int(engine.stdout.readline())
time.sleep(1)
if sys.argv[1] == "started":
    reaper.all_started()
    time.sleep(1)
after = subprocess.Popen(sleeper)
print(reaper._process.pid, before.pid, service.pid, after.pid, engine.pid, worker, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("when", ["started", "starting"])
def test_a_killed_parents_engine_ends_with_all_its_processes(when: str) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, when], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        reaper, before, service, after, engine, worker = map(int, parent.stdout.readline().split())
        parent.kill()
    try:
        assert eventually(lambda: not any(map(lives, (reaper, engine, worker))))
        assert lives(before)
        assert lives(service)
        assert when == "starting" or lives(after)
    finally:
        for pid in (before, service, after):
            if lives(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("started", [True, False])
def test_one_that_closes_in_order_touches_nothing(started: bool) -> None:
    reaper = WorkerReaper(grace_s=0.1)
    with subprocess.Popen(SLEEPER) as sleeper:
        assert eventually(lambda: sleeper.pid in descendants(os.getpid()))
        if started:
            reaper.all_started()
        reaper.close()
        reaper.close()
        assert lives(sleeper.pid)
        sleeper.kill()


def test_descendants_are_found_at_any_depth(tmp_path: Path) -> None:
    script = f"import subprocess; subprocess.run({SLEEPER!r})"
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        assert eventually(lambda: len(descendants(parent.pid)) == 1)
        (child,) = descendants(parent.pid)
        assert {parent.pid, child} <= descendants(os.getpid()).keys()
        os.kill(child, signal.SIGKILL)
