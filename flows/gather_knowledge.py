"""A project's next round up to its knowledge, on a machine that does not train. Called by `oel gather`."""

from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from flows.learning_round import run_stages
from flows.next_round import begin_or_join
from flows.recovery.abandoned import take_over
from oel_core.preflight.check import check
from oel_core.projects.settings import RequestedSettings, requested_config
from oel_core.projects.triggers import Trigger
from oel_core.rounds.round import Round
from oel_core.runs.folder import RunFolder, open_run
from oel_core.stages.distill import STAGE as DISTILL
from oel_core.stages.round import distillation_stages, knowledge_stages
from tasks.tracking.client import LOOP, tracker_of
from tasks.tracking.registry import registry_of
from tasks.tracking.settings import TrackingSettings, load_settings


@flow(name="gather-knowledge", flow_run_name="{name} gather knowledge")
def gather_knowledge(
    requested: RequestedSettings,
    name: str,
    trigger: str,
    root: Path = Path("runs"),
    tracking: TrackingSettings | None = None,
) -> Trigger:
    """Starts the project's next round from its champion, or resumes the open one, and stops before training.

    The round stays open. Returns the trigger: its `round`, or why there is none.
    """
    check(requested_config(RunFolder(root / name), requested))
    settings, run = tracking or load_settings(), open_run(root, name)
    with run.leased(f"gather-knowledge, trigger {trigger}"):
        take_over(run, str(flow_run.id))
        champion = registry_of(settings, run).champion()
        begun, config = begin_or_join(requested, run, trigger, champion.round if champion else 0)
        if begun.round is None:
            return begun
        round, tracker = Round(config, run, begun.round), tracker_of(settings, run)
        tracker.log_config(config)
        with tracker.running(LOOP), tracker.running(str(round.number)):
            stages = [*knowledge_stages(config), *distillation_stages(config)]
            run_stages(round, [stage for stage in stages if stage.name != DISTILL], settings)
    return begun
