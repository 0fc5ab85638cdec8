"""SIGTERM is handled at once, also with other handlers and a busy main thread."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flows.recovery.sigterm import on_sigterm
from flows.recovery.stopping import under_worker
from oel_core.errors import ConfigError

BUSY = """
import os, signal, sys, time
from flows.recovery.sigterm import on_sigterm
def leave():
    os.write(1, b"left")
    os._exit(143)
signal.signal(signal.SIGTERM, lambda number, frame: None)
with on_sigterm(leave):
    signal.signal(signal.SIGTERM, lambda number, frame: time.sleep(60))
    os.write(1, b"ready ")
    time.sleep(60)
"""


def test_it_leaves_past_every_handler() -> None:
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(6) == b"ready "
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == b"left"
    assert process.wait(20) == 143


def test_nothing_stays_behind() -> None:
    threads = threading.active_count()
    with on_sigterm(lambda: None):
        assert threading.active_count() == threads + 1
    assert threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == -1


def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OEL_ROOT", str(tmp_path / "runs"))
    with pytest.raises(ConfigError, match="run name"), under_worker(tmp_path / "runs", "../../elsewhere"):
        pass
    assert list(tmp_path.iterdir()) == []


CRASHING = """
import logging, os, signal, time
from flows.recovery.sigterm import on_sigterm
def leave():
    time.sleep(0.5)
    os.write(1, b"left")
    os._exit(143)
def crash(number, frame):
    logging.getLogger("prefect.task_runs").error("Crash detected! Execution was aborted by a termination signal.")
    os.write(1, b"crashed")
with on_sigterm(leave):
    signal.signal(signal.SIGTERM, crash)
    os.write(1, b"ready ")
    time.sleep(60)
"""


def test_an_end_that_was_asked_for_is_not_called_a_crash() -> None:
    process = subprocess.Popen([sys.executable, "-c", CRASHING], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(6) == b"ready "
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (out, b"Crash" in err, process.returncode) == (b"left", False, 143)
