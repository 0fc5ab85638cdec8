"""What docs/deployment.md tells those who have an agent works as it is written."""

import json
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from oel_core.runs.guardian import free_port
from oel_core.serving.recording.journal import JOURNAL
from tests.documents import blocks, commands
from tests.serving.process import start, wait_until_served

DOCUMENT = Path(__file__).parents[2] / "docs" / "deployment.md"
OEL = [sys.executable, "-m", "flows.cli.app"]


@pytest.mark.slow
def test_a_project_is_served_and_asked(tmp_path: Path) -> None:
    found = list(blocks(DOCUMENT))
    (shell,) = (one for one in found if one.kind == "sh" and "oel serve" in one.text)
    (client,) = (one for one in found if one.kind == "python" and "/v1" in one.text)
    (said,) = (one for one in found if one.kind == "text" and "Address" in one.text)
    init, serve = (shlex.split(command)[1:] for command in commands(shell))
    (tmp_path / "examples").symlink_to(DOCUMENT.parents[1] / "examples")
    port = str(free_port())
    made = start([*OEL, *init], tmp_path)
    made.communicate()
    assert made.returncode == 0
    process = start([*OEL, *serve, "--port", port], tmp_path)
    gateway = wait_until_served(process, tmp_path, tmp_path / "runs" / "shop" / ".serve-token")
    assert "".join(gateway.said).replace(port, "8010").split() == said.text.split()
    script = client.text.replace("8010", port)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert gateway.stop() == 0
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("shop-base-")
    journal = sqlite3.connect(tmp_path / "runs" / "shop" / "inbox" / JOURNAL)
    ((record,),) = journal.execute("select record from call").fetchall()
    assert json.loads(record)["messages"][1]["content"] == "Any boots left?"
    ((given,),) = journal.execute("select record from feedback").fetchall()
    assert json.loads(given)["feedback"]["correction"] == "Two pairs are left."
