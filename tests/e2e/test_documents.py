"""The commands of the documents, run as they are written, in their order, on real servers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import RUNNABLE, Block, blocks
from tests.e2e.operating import PATIENCE_S, SOURCE, Services, until

USUAL_PORTS = ("127.0.0.1:4200", "127.0.0.1:5000")


def run_block(services: Services, block: Block) -> None:
    """In a shell or an interpreter of its own, in the copy of the source; only ports are replaced."""
    text = block.text if block.kind == "python" else block.script()
    for usual, port in zip(USUAL_PORTS, (services.prefect, services.mlflow), strict=True):
        text = text.replace(usual, f"127.0.0.1:{port}")
    command = [sys.executable, "-c", text] if block.kind == "python" else ["bash", "-c", text]
    done = subprocess.run(
        command,
        cwd=services.home,
        env=services.environment(),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    print(f"== {block.place}\n{done.stdout}{done.stderr}")
    assert done.returncode == 0, f"{block.place}\n{text}\n{done.stdout}\n{done.stderr}\n{services.logs()}"


def run_document(services: Services, path: Path) -> None:
    for block in blocks(path):
        if block.kind in RUNNABLE and block.reason is None:
            run_block(services, block)
    until(lambda: services.open_runs() == [], "everything that was started is over")


@pytest.mark.services
def test_every_command_of_the_operations_guide(services: Services) -> None:
    run_document(services, SOURCE / "docs" / "operations.md")


@pytest.mark.services
def test_every_command_of_the_readme(services: Services) -> None:
    run_document(services, SOURCE / "README.md")


@pytest.mark.services
def test_an_agents_project_has_its_nightly_round(services: Services) -> None:
    """The commands that follow `oel serve` in the guide; serving is tested in tests/serving."""
    shutil.copytree(SOURCE / "examples" / "deployment", services.home / "examples" / "deployment", dirs_exist_ok=True)
    services.oel("init", "shop", "--preset", "examples/deployment/seed.yaml")
    found = blocks(SOURCE / "docs" / "deployment.md")
    (nightly,) = (block for block in found if block.kind == "sh" and "oel schedule" in block.text)
    run_block(services, nightly)
    (rows,) = (
        json.loads(line) for line in services.oel("schedule", "next-round", "--json").splitlines() if "shop" in line
    )
    assert rows["cron"] == "0 3 * * *"
    services.oel("schedule", "next-round", "--off", "--set", "project=shop")
