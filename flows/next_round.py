"""The recurring round: from the champion's model, with new experience, through the gate.

All state is in the run folder and the registry, so any worker can run it and resume after a killed one. Idempotent: the
same trigger id gives the same outcome.
"""

import time
from pathlib import Path
from typing import Any

from prefect import State, flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from flows.evaluate_round import evaluate_round
from flows.learning_round import learning_round
from flows.pages.gate import gate_key, gate_markdown
from flows.pages.outcome import outcome_state
from flows.recovery.abandoned import take_over
from oel_core.config.run import OelConfig
from oel_core.errors import (
    ArtifactError,
    BusyError,
    DistillationError,
    ExtractionError,
    OelError,
    PromptTooLongError,
    UndecidedError,
)
from oel_core.gate.promotion import Verdict
from oel_core.models.threads import set_run_threads
from oel_core.preflight.check import check
from oel_core.projects.admission import Admission
from oel_core.projects.round_failure import happened_before
from oel_core.projects.round_inbox import set_aside
from oel_core.projects.settings import RequestedSettings, change_of, keep_config, requested_config
from oel_core.projects.triggers import Outcome, Trigger, begin, end, finished_trigger, join, open_round, undecided
from oel_core.reporting import REPORT_FILE
from oel_core.rounds.round import Round
from oel_core.runs.folder import CONFIG, RunFolder, check_stages, open_run
from oel_core.stages.evaluate import own_parts, stage_name
from tasks.alarms import watch
from tasks.promote import gate, promote
from tasks.report import report
from tasks.retries import can_help
from tasks.tracking.client import LOOP, tracker_of
from tasks.tracking.registry import registry_of
from tasks.tracking.settings import TrackingSettings, load_settings


def next_round(
    requested: RequestedSettings,
    name: str,
    trigger: str,
    root: Path = Path("runs"),
    tracking: TrackingSettings | None = None,
    wait_s: float = 0.0,
) -> Trigger:
    """Runs the project's next round, or resumes the open one, and returns the trigger with its outcome.

    The settings are the project's, updated by `requested`; the update is stored in the project.
    `wait_s`: timeout for acquiring the project's lease, seconds.
    """
    settings = tracking or load_settings()
    state: State[Any] = next_round_flow(requested, name, trigger, root, settings, wait_s, return_state=True)
    found: Trigger | BaseException = state.result(raise_on_failure=False)
    if isinstance(found, BaseException):
        raise found
    return found


@flow(name="next-round", flow_run_name="{name} next round")
def next_round_flow(
    requested: RequestedSettings, name: str, trigger: str, root: Path, settings: TrackingSettings, wait_s: float
) -> State[Trigger]:
    """See `next_round`; the final state's name and type depend on the outcome."""
    found = _next_round(requested, name, trigger, root, settings, wait_s)
    return outcome_state(found, data=found)


def _next_round(
    requested: RequestedSettings, name: str, trigger: str, root: Path, settings: TrackingSettings, wait_s: float
) -> Trigger:
    check(requested_config(RunFolder(root / name), requested))
    run = open_run(root, name)
    with run.leased(f"next-round, trigger {trigger}", wait_s=wait_s):
        take_over(run, str(flow_run.id))
        registry = registry_of(settings, run)
        if (run.path / CONFIG).exists():
            watch(run, registry)
        champion = registry.champion()
        over = finished_trigger(run, trigger)
        if over is not None:
            if _lacks_report(run, over):
                report(run, settings)
            return over
        begun, config = begin_or_join(requested, run, trigger, champion.round if champion else 0)
        if begun.round is None:
            return begun
        return _finish(Round(config, run, begun.round), trigger, settings)


def begin_or_join(
    requested: RequestedSettings, run: RunFolder, trigger: str, champion: int
) -> tuple[Trigger, OelConfig]:
    """The trigger's round, begun from the champion or open already, with its configuration. Requires the lease.

    A trigger without a round has ended: there is too little new experience.
    """
    config = requested_config(run, requested)
    change = change_of(run, config, requested, trigger)
    current = open_round(run)
    if current is None:
        if change is not None:
            keep_config(run, config, change)
        begun = _begin(config, run, trigger, champion)
    else:
        begun = join(run, trigger, current)
    if begun.round is None:
        return begun, config
    config = config.model_copy(update={"rounds": begun.round})
    check_stages(run, config, since=begun.round)  # of a round that is open only what goes with its stages is kept
    keep_config(run, config, change)
    set_run_threads(run.path, config.model)
    return begun, config


def _begin(config: OelConfig, run: RunFolder, trigger: str, champion: int) -> Trigger:
    """Begins a round with the episodes that the champion's model can be trained on, if there are enough."""
    admission = Admission(config, Round(config, run, champion).model())
    return begin(config, run, trigger, champion, admission.require)


def _finish(round: Round, trigger: str, settings: TrackingSettings) -> Trigger:
    """Runs the unfinished stages of the round, the gate and the promotion."""
    run = round.run
    tracker = tracker_of(settings, run)
    tracker.log_config(round.config)
    try:
        with tracker.running(LOOP):
            for earlier in sorted({0, round.parent.number}):
                _measure(round.at(earlier), settings)
            learning_round(round, settings)
            verdict = gate(round, settings)
            outcome, detail = _decide(round, verdict, settings)
    except UndecidedError as error:
        return undecided(run, trigger, round.number, str(error))
    except Exception as error:
        if _ends_round(round, error):
            aside = set_aside(round, str(error))
            _end(round, trigger, "failed", "\n".join([_message(error), *aside]), settings)
        raise
    create_markdown_artifact(
        gate_markdown(run, verdict, detail),
        key=gate_key(run, round.number),
        description=f"Gate of round {round.number} of {run.name}: {outcome}",
    )
    ended = _end(round, trigger, outcome, detail, settings)
    report(run, settings)  # after the outcome, which determines the champion
    return ended


def _lacks_report(run: RunFolder, over: Trigger) -> bool:
    """Whether the trigger's round ended without its report, because of a kill."""
    path = run.path / REPORT_FILE
    return over.outcome in ("promoted", "refused") and not (path.exists() and path.stat().st_mtime >= over.at)


def _ends_round(round: Round, error: Exception) -> bool:
    """Whether the error is permanent: no training data, an unusable model, or the same error as an earlier attempt.

    Errors that a busy project, a disk, a network or a server may cause always leave the round open.
    """
    if isinstance(error, (ExtractionError, DistillationError, PromptTooLongError)):
        return True
    if isinstance(error, BusyError) or can_help(error) or type(error).__module__.split(".")[0] == "prefect":
        return False
    return happened_before(round, error)


def _message(error: Exception) -> str:
    """The error message, with the type for errors of other packages."""
    return str(error) if isinstance(error, OelError) else f"{type(error).__name__}: {error}"


def _measure(earlier: Round, settings: TrackingSettings) -> None:
    """Evaluates an earlier round's model on suites that the gate needs and that are missing (new or deleted)."""
    missing = [part for part in own_parts(earlier.config) if not earlier.stage(stage_name(part)).finished]
    if missing:
        with tracker_of(settings, earlier.run).running(str(earlier.number)):
            evaluate_round(earlier, missing, settings)


def _decide(round: Round, verdict: Verdict, settings: TrackingSettings) -> tuple[Outcome, str]:
    """Promotes a model that passed the gate, unless the champion has changed meanwhile."""
    if not verdict.promote:
        return "refused", f"the gate refuses it: {', '.join(verdict.refusals)}"
    try:
        move = promote(round, verdict, settings)
    except BusyError:
        raise  # another process is moving the champion: the round stays open
    except ArtifactError as error:
        return "refused", str(error)
    return "promoted", f"version {move.champion} replaces {move.replaced or 'the base model'}"


def _end(round: Round, trigger: str, outcome: Outcome, detail: str, settings: TrackingSettings) -> Trigger:
    champion = registry_of(settings, round.run).champion()
    ended = Trigger(
        id=trigger,
        outcome=outcome,
        round=round.number,
        champion=champion.round if champion else 0,
        detail=detail,
        at=time.time(),
    )
    return end(round.run, ended, round.number)
