"""The study flow: all arms with all loop seeds, then tables and plots. Called by `oel study`."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from flows.recovery.abandoned import take_over
from oel_core.errors import DistillationError, ExtractionError
from oel_core.runs.folder import open_run
from oel_core.runs.manifest import flatten
from oel_core.study.plan import StudyPlan, jobs
from oel_core.study.results import StudyResult
from oel_core.study.tables import markdown
from oel_core.study.writing import require_study, write_plan
from tasks.study import study_results, study_run
from tasks.tracking.client import LOOP, tracker_of
from tasks.tracking.settings import TrackingSettings, load_settings


@flow(name="study", flow_run_name="{name}")
def study(
    plan: StudyPlan, name: str, root: Path = Path("runs"), tracking: TrackingSettings | None = None
) -> StudyResult:
    """Executes all runs of the study; finished stages are skipped.

    A run without training data (no passed episode, empty knowledge) fails alone and is reported in the results.
    """
    require_study(root / name)
    run = open_run(root, name)
    settings = tracking or load_settings()
    with run.leased("study"):
        take_over(run, str(flow_run.id))
        write_plan(run.path, plan)
        tracker = tracker_of(settings, run)
        with tracker.running(LOOP):
            settings_of_all = flatten(plan.config.model_dump(mode="json"))
            tracker.log_params(LOOP, settings_of_all | plan.model_dump(mode="json", exclude={"config"}))
            failed = _runs(plan, run.path, settings)
            result = study_results(plan, run.path, failed, settings)
        create_markdown_artifact(markdown(result), key="study", description=f"Study {name} of {plan.preset}")
    return result


def _runs(plan: StudyPlan, folder: Path, settings: TrackingSettings) -> dict[str, str]:
    """Failed run → error."""
    failed: dict[str, str] = {}
    planned = jobs(plan, folder)
    for number, job in enumerate(planned, start=1):
        if job.needs in failed:
            failed[job.name] = f"it needs {job.needs}, which failed"
            continue
        try:
            study_run(folder, job, f"{number}/{len(planned)}", settings)
        except (ExtractionError, DistillationError) as error:
            failed[job.name] = str(error)
    return failed
