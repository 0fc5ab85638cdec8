"""Where a browser finds a run: on the server that shows it, and nowhere else."""

from pathlib import Path

import pytest

from flows.pages.round import report_markdown
from flows.services import links
from flows.services.process import Started, state_path
from flows.services.servers import MLFLOW, UpSettings, write_settings
from oel_core.config.run import OelConfig
from oel_core.runs.files import write_atomic
from oel_core.runs.folder import RunFolder, adopt_config, open_run
from oel_core.runs.processes import Process, this_process
from tasks.tracking.pages import artifact_page, runs_page
from tasks.tracking.settings import TrackingSettings


def up(root: Path, holder: Process, **changes: object) -> None:
    """What `oel up` notes about the MLflow server of a root."""
    write_settings(root, UpSettings.model_validate({"mlflow_port": 5999, **changes}))
    one = Started(name=MLFLOW, process=holder, groups=(), url="http://127.0.0.1:5999", since=0.0)
    state_path(root, MLFLOW).parent.mkdir(parents=True, exist_ok=True)
    write_atomic(state_path(root, MLFLOW), one.model_dump_json().encode())


def own(root: Path, **changes: object) -> TrackingSettings:
    return TrackingSettings.model_validate(changes).resolved(root, "run")


def test_the_server_of_the_root_shows_its_runs_while_it_lives(tmp_path: Path) -> None:
    assert links.mlflow_server(tmp_path, own(tmp_path)) is None
    up(tmp_path, this_process())
    assert links.mlflow_server(tmp_path, own(tmp_path)) == "http://127.0.0.1:5999"
    gone = this_process().model_copy(update={"born": "0"})
    up(tmp_path, gone)
    assert links.mlflow_server(tmp_path, own(tmp_path)) is None


def test_a_server_with_another_database_shows_nothing(tmp_path: Path) -> None:
    up(tmp_path, this_process())
    assert links.mlflow_server(tmp_path, own(tmp_path, tracking_uri="sqlite:////elsewhere/mlflow.db")) is None
    assert links.mlflow_server(tmp_path, own(tmp_path, tracking_uri="https://me:word@host/x")) == "https://***@host/x"


def test_the_pages_are_of_the_training_menu_with_the_view_of_the_runs() -> None:
    assert runs_page("http://h:1/", "7") == (
        "http://h:1/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=oel"
    )
    assert artifact_page("http://h:1", "7", "r", "report.html") == (
        "http://h:1/#/experiments/7/runs/r/artifacts/report.html?workflowType=machine_learning"
    )


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    found = open_run(tmp_path, "run")
    adopt_config(found, OelConfig())
    return found


def test_a_page_links_an_address_and_prints_a_path(run: RunFolder) -> None:
    """A browser follows no file:// from a page of a server."""
    linked = report_markdown(run, artifact_page("http://h:1", "7", "r", "report.html"))
    assert "[The whole report](<http://h:1/#/experiments/7/runs/r/artifacts/report.html?" in linked
    printed = report_markdown(run, "/runs/a `b`](http://evil.example)/report.html")
    assert "The whole report: /runs/a \\`b\\`\\](http\\://evil.example)/report.html on the machine" in printed
    assert "file://" not in linked + printed
