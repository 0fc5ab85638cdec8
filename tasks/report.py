"""Task: the report on the run so far, written into its folder and copied to tracking."""

from pathlib import Path

from prefect import task

from oel_core.artifacts import RunFolder
from oel_core.reporting import write_report
from tasks.base import STAGE_OPTIONS
from tasks.tracking import LOOP, tracker_of
from tasks.tracking_settings import TrackingSettings


@task(name="report", task_run_name="report on {run.name}", **STAGE_OPTIONS)
def report(run: RunFolder, tracking: TrackingSettings) -> Path:
    """See `oel_core.reporting`."""
    path = write_report(run)
    tracker_of(tracking, run).log_file(LOOP, path, "")
    return path
