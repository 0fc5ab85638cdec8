"""`oel up --postgres` on a PostgreSQL server of its own, which is restarted, and is away, in the middle of a round."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from flows.services.postgres import database_url
from tests.e2e.conftest import starting
from tests.e2e.loop import short_config
from tests.e2e.operating import Services, copy_source
from tests.e2e.postgres import Postgres, running_postgres
from tests.fakes import tiny_model_folder
from tests.tasks.tracking.revisions import take_back

pytestmark = pytest.mark.services


AWAY_S = 20.0
"""Longer than the connection time-outs of both servers' pools, shorter than the minutes that rounds wait."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as found:
        yield found


@pytest.fixture(scope="module")
def on_postgres(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("postgres")
    home = folder / "operated"
    copy_source(home, short_config(tiny_model_folder(folder), rounds=1))
    with starting(Services(home, postgres=postgres.url)) as services:
        yield services


def restart(postgres: Postgres) -> Iterator[None]:
    yield
    postgres.stop()
    postgres.start()


def crash_and_stay_away(postgres: Postgres) -> Iterator[None]:
    yield
    postgres.stop("immediate")
    time.sleep(AWAY_S)
    postgres.start()


def fail_over(postgres: Postgres) -> Iterator[None]:
    standby = postgres.replicate()
    yield
    postgres.fail_over(standby)


MLFLOW_BEFORE = "17e22815139b"
"""A revision of MLflow's tables, three before those of 3.15, and six tables fewer."""


def test_databases_of_older_versions_are_migrated(on_postgres: Services, postgres: Postgres) -> None:
    project = on_postgres.project("older")
    assert on_postgres.ended(project.trigger("one"))["name"] == "Refused"
    shown = on_postgres.oel("history", "older")
    on_postgres.oel("down")
    assert take_back(database_url(postgres.url, "mlflow"), MLFLOW_BEFORE) >= 6
    prefect = [sys.executable, "-m", "prefect", "server", "database", "downgrade", "--yes", "--revision", "-1"]
    address = {"PREFECT_API_DATABASE_CONNECTION_URL": database_url(postgres.url, "prefect")}
    subprocess.run(prefect, env=on_postgres.environment() | address, check=True, capture_output=True)
    on_postgres.up()
    assert on_postgres.well(), on_postgres.logs()
    assert on_postgres.oel("history", "older") == shown
    assert on_postgres.ended(project.trigger("two"))["name"] == "Refused"
    assert on_postgres.open_runs() == []


@pytest.mark.parametrize("lose_it", [restart, crash_and_stay_away, fail_over])
def test_a_round_outlasts_the_loss_of_postgres(
    on_postgres: Services, postgres: Postgres, lose_it: Callable[[Postgres], Iterator[None]]
) -> None:
    name = lose_it.__name__
    project, loss = on_postgres.project(name), lose_it(postgres)
    next(loss)
    flow_run = project.in_the_middle("one", 1)
    trainer = project.trainer().holder
    next(loss, None)
    ended = on_postgres.ended(flow_run)
    assert on_postgres.well(), on_postgres.logs()
    assert (ended["name"], project.outcome("one")) == ("Refused", "refused"), f"{trainer} {ended}"
    assert project.run.rounds() == [0, 1]
    on_postgres.oel("promote", name, "--force", "--reason", "for the test")
    assert "promote" in on_postgres.oel("history", name)
    assert on_postgres.open_runs() == []
    assert not (on_postgres.root / "mlflow.db").exists()
    for path in on_postgres.root.rglob("*"):
        assert not path.is_file() or postgres.password.encode() not in path.read_bytes(), path
