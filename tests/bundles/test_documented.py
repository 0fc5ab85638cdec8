"""The commands of "Two sides" in docs/deployment.md, in their order."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import blocks

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_commands_of_two_sides_end_with_an_adopted_checkpoint(tmp_path: Path) -> None:
    found = [block for block in blocks(ROOT / "docs" / "deployment.md") if "oel bundle make" in block.text]
    scripts = [block for block in found if block.kind == "sh"]
    assert len(scripts) == 1
    oel = f'oel() {{ "{sys.executable}" -m flows.cli.app "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-c", oel + scripts[0].script()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "user" / "lake" / "round_01" / "distill" / "origin.json").is_file()
    assert "Not in it: the answers to these prompts" in done.stdout
