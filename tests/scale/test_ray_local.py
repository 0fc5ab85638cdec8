"""`runner.address: local`: a cluster that starts with the run, asks for a token, and ends with the run."""

import os
import secrets
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from oel_core.types import Trajectory
from tests.scale.on_this_machine import played

pytestmark = [
    pytest.mark.scale,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: make test-scale"),
]
MARK = "OEL_TEST_MARK"
PATIENCE_S = 60.0


def play(folder: Path, use: str, mark: str) -> tuple[list[Trajectory], str]:
    """Episodes without times, and what was printed."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.scale.on_this_machine", str(folder), use]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {MARK: mark}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return played(folder), done.stdout


def left(mark: str) -> list[str]:
    """Processes that carry the mark in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def test_a_cluster_of_the_run_itself_gives_the_same_and_leaves_nothing(tmp_path: Path) -> None:
    mark = secrets.token_hex(8)
    expected, _ = play(tmp_path / "local", "local", mark)
    assert len(expected) == 16
    episodes, said = play(tmp_path / "ray", "ray", mark)
    assert episodes == expected
    assert "refused" in said
    until = time.monotonic() + PATIENCE_S
    while (running := left(mark)) and time.monotonic() < until:
        time.sleep(0.5)
    assert running == []
