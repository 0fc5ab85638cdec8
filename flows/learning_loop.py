"""The learning loop: evaluates the base model, then runs all rounds. Called by `oel run`."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from flows.evaluate_round import evaluate_round
from flows.learning_round import learning_round
from flows.pages.round import report_key, report_markdown
from flows.recovery.abandoned import take_over
from flows.services.links import report_place
from oel_core.config.run import OelConfig
from oel_core.models.threads import set_run_threads
from oel_core.preflight.check import check
from oel_core.rounds.round import Round
from oel_core.rounds.summary import RoundSummary, summarise_run
from oel_core.runs.folder import adopt_config, open_run
from oel_core.runs.round_start import require_ungated
from oel_core.stages.evaluate import parts
from tasks.report import report
from tasks.tracking.client import LOOP, tracker_of
from tasks.tracking.settings import TrackingSettings, load_settings


@flow(name="learning-loop", flow_run_name="{name}")
def learning_loop(
    config: OelConfig,
    name: str,
    root: Path = Path("runs"),
    tracking: TrackingSettings | None = None,
    wait_s: float = 0.0,
) -> list[RoundSummary]:
    """Runs all rounds, or resumes the run of that name, and returns one row per round.

    `wait_s`: how long to wait for another process that works on the run before raising.
    """
    check(config)
    run = open_run(root, name)
    settings = tracking or load_settings()
    with run.leased("learning-loop", wait_s=wait_s):
        require_ungated(run, config.rounds)
        adopt_config(run, config)
        set_run_threads(run.path, config.model)
        take_over(run, str(flow_run.id))
        tracker = tracker_of(settings, run)
        tracker.log_config(config)
        with tracker.running(LOOP):
            with tracker.running("0"):
                evaluate_round(Round(config, run, 0), parts(config, 0), settings)
            for number in range(1, config.rounds + 1):
                learning_round(Round(config, run, number), settings)
            report(run, settings)
            page = report_markdown(run, report_place(run, settings))
            create_markdown_artifact(page, key=report_key(run), description=f"Where the report on {run.name} is")
        return summarise_run(run)
