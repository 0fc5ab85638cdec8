"""Flow runs that a killed process leaves in the state Running."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import TagsContext
from prefect.states import Running
from prefect.testing.utilities import prefect_test_harness

from flows.recovery.abandoned import tagged_with_process, take_over
from oel_core.runs.folder import open_run

pytestmark = pytest.mark.slow


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with prefect_test_harness(server_startup_timeout=300), get_client(sync_client=True) as client:
        yield client


@flow
def loop() -> None:
    """A flow whose runs the test creates without calling it."""


def tags_of_dead_process() -> list[str]:
    """What a process that has ended tagged its flow runs with."""
    program = (
        "from prefect.context import TagsContext\n"
        "from flows.recovery.abandoned import tagged_with_process\n"
        "with tagged_with_process():\n"
        "    print(*TagsContext.get().current_tags)\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return [told.stdout.strip()]


def test_a_kill_before_the_run_folder_knows_the_flow_run_leaves_none_running(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    killed = client.create_flow_run(loop, tags=tags_of_dead_process(), state=Running())
    with tagged_with_process():
        alive = client.create_flow_run(loop, tags=TagsContext.get().current_tags, state=Running())
    foreign = client.create_flow_run(loop, state=Running())
    run = open_run(tmp_path, "demo")
    with run.leased("test"):
        take_over(run, str(alive.id))
    states = [client.read_flow_run(one.id).state_type for one in (killed, alive, foreign)]
    assert states == ["CRASHED", "RUNNING", "RUNNING"]
