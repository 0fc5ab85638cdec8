"""Task: the report on the run so far, written into its folder and copied to tracking."""

from pathlib import Path

from prefect import task

from oel_core.reporting import write_report
from oel_core.reporting.page.notes import note
from oel_core.runs.folder import RunFolder
from tasks.base import STAGE_OPTIONS
from tasks.tracking.client import LOOP, MAX_VALUE, tracker_of
from tasks.tracking.settings import TrackingSettings


@task(name="report", task_run_name="report on {run.name}", **STAGE_OPTIONS)
def report(run: RunFolder, tracking: TrackingSettings) -> Path:
    """See `oel_core.reporting`."""
    path = write_report(run)
    tracker = tracker_of(tracking, run)
    tracker.log_file(LOOP, path, "")
    tracker.describe(LOOP, note(run, most=MAX_VALUE))
    return path
