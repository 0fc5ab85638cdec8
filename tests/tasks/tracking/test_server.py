"""MLflow's server gets a database of its own version."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow.cli import cli

from oel_core.errors import ServiceError
from tasks.tracking.client import connect, run_server
from tasks.tracking.settings import TrackingSettings
from tests.tasks.tracking.revisions import revision, take_back


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Command lines of MLflow, which is not run."""
    found: list[Sequence[str]] = []
    monkeypatch.setattr(cli, "main", lambda words, prog_name: found.append(words))
    return found


def test_an_older_database_is_migrated_with_all_that_it_has(tmp_path: Path, served: list[Sequence[str]]) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri)
    run = client.create_run(client.create_experiment("oel")).info.run_id
    client.log_metric(run, "pass_rate", 0.5)
    newest = revision(uri)
    take_back(uri, "-2")
    assert revision(uri) != newest
    run_server(uri, ["--port", "5000"])
    assert revision(uri) == newest
    assert client.get_run(run).data.metrics == {"pass_rate": 0.5}
    assert served == [["server", "--port", "5000"]]


def test_a_run_refuses_a_database_of_another_version(tmp_path: Path, served: list[Sequence[str]]) -> None:
    """One that has all tables: MLflow migrates others by itself."""
    settings = TrackingSettings(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    run_server(settings.tracking_uri, [])
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("update alembic_version set version_num = '17e22815139b'")
        database.commit()
    with pytest.raises(
        ServiceError, match=r"mlflow.db was made by another version .* `oel up` .* migrates an older one"
    ):
        connect(settings)


def test_a_new_database_gets_its_tables(tmp_path: Path, served: list[Sequence[str]]) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    run_server(uri, [])
    assert mlflow.MlflowClient(uri).search_experiments() != []
    assert len(served) == 1
