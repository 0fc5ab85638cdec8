"""What tests start and mount does not outlive them, even when they are killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.operating import until

MOUNTS = """
import sys, time
from pathlib import Path
from tests.e2e.operating import small_disk

with small_disk(Path(sys.argv[1]), 1) as mounted:
    print(mounted, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_small_disk_is_unmounted_when_its_tests_are_killed(tmp_path: Path, sent: signal.Signals) -> None:
    command = [sys.executable, "-c", MOUNTS, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        mounted = process.stdout.readline().strip()
        if mounted == "False":
            pytest.skip("mounting takes root and the right to mount")
        assert os.path.ismount(tmp_path)
        process.send_signal(sent)
        process.wait()
        until(lambda: not os.path.ismount(tmp_path), "the file system is unmounted")
    finally:
        process.kill()
        process.communicate()
