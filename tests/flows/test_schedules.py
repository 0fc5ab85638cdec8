"""A schedule makes flow runs: what Prefect's server needs of its database library is installed."""

from collections.abc import Iterator

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="module")
def client() -> Iterator[SyncPrefectClient]:
    with prefect_test_harness(server_startup_timeout=300), get_client(sync_client=True) as client:
        yield client


@flow
def nightly() -> None:
    """Never run here."""


def test_the_server_makes_the_flow_runs_of_a_schedule(client: SyncPrefectClient) -> None:
    flow_id = client.create_flow(nightly)
    deployment = client.create_deployment(flow_id, "nightly")
    client.create_deployment_schedules(deployment, [(CronSchedule(cron="0 3 * * *"), True)])
    client.request("POST", "/deployments/{id}/schedule", path_params={"id": deployment}, json={"min_runs": 3})
    times = sorted(run.expected_start_time for run in client.read_flow_runs())
    assert len(times) >= 3
    assert {(time.hour, time.minute) for time in times} == {(3, 0)}
