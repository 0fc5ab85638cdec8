"""URLs of a run's pages on the MLflow server, if one runs."""

from pathlib import Path

from flows.services.process import find, runs
from flows.services.servers import MLFLOW, read_settings
from oel_core.config.urls import without_secrets
from oel_core.reporting import REPORT_FILE
from oel_core.runs.folder import RunFolder
from tasks.tracking.client import LOOP, experiment_of, tracked_run, tracker_of
from tasks.tracking.pages import artifact_page, runs_page
from tasks.tracking.settings import TrackingSettings, load_settings


def mlflow_server(root: Path, settings: TrackingSettings) -> str | None:
    """The URL of a server with the runs of these settings (resolved): the configured one, or that of `oel up`.

    None if no server of this root runs, or it has another database.
    """
    if settings.tracking_uri.startswith(("http://", "https://")):
        return without_secrets(settings.tracking_uri)
    up, server = read_settings(root.resolve()), find(root.resolve(), MLFLOW)
    if up is None or server is None or not runs(server):
        return None
    same = up.postgres or settings.tracking_uri == TrackingSettings().resolved(root, "").tracking_uri
    return up.mlflow_url if same else None


def report_place(run: RunFolder, settings: TrackingSettings) -> str:
    """The page that shows the run's report, or its path if no server runs, since a browser does not open a file from a
    page."""
    tracker = tracker_of(settings, run)
    server = mlflow_server(run.path.parent, tracker.settings)
    path = run.path / REPORT_FILE
    noted = tracked_run(run).runs.get(LOOP)
    return artifact_page(server, tracker.experiment, noted, REPORT_FILE) if server and noted else str(path.resolve())


def all_runs(root: Path, server: str) -> str:
    """The page of the runs that are tracked under a root, on a running server of that root.

    If every run has an experiment of its own, it is the server's page of all experiments.
    """
    settings = load_settings()
    if "{run}" in settings.experiment:
        return f"{server}/#/experiments"
    return runs_page(server, experiment_of(settings.resolved(root, "")))
