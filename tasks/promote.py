"""Tasks: registers a round's checkpoint, runs the gate, and promotes the champion."""

from prefect import task

from oel_core.gate.promotion import Verdict
from oel_core.gate.sessions import with_deployment
from oel_core.rounds.context import CHECKPOINT, StageContext
from oel_core.rounds.round import Round
from oel_core.stages.gate import STAGE, VERDICT, read_verdict
from oel_core.stages.gate import gate as run_gate
from tasks.base import STAGE_OPTIONS
from tasks.progress import progress
from tasks.resources import free_policies
from tasks.tracking.client import tracker_of
from tasks.tracking.publishing import publish
from tasks.tracking.registry import Move, registry_of
from tasks.tracking.settings import TrackingSettings
from tasks.tracking.target import of_round


@task(name="register", task_run_name="register round {round.number}", **STAGE_OPTIONS)
def register(round: Round, tracking: TrackingSettings) -> str | None:
    """Registers the round's checkpoint as `candidate`; the same checkpoint is registered once."""
    distilled = round.stage("distill")
    tracker = tracker_of(tracking, round.run)
    return tracker.register(str(round.number), distilled.path / CHECKPOINT, distilled.digest())


@task(name="gate", task_run_name="gate round {round.number}", **STAGE_OPTIONS)
def gate(round: Round, tracking: TrackingSettings) -> Verdict:
    """See `oel_core.stages.gate`. The verdict is stored in the registry and as an artifact."""
    context = StageContext(on_progress=progress(f"round {round.number}: gate"), free_memory=free_policies)
    manifest = run_gate(round, context)
    verdict = with_deployment(round, round.parent.number, read_verdict(round.run, round.number))
    target = of_round(tracking, round)
    publish(target, round, STAGE, manifest)
    target.log_file(round.stage(STAGE).path / VERDICT, STAGE)
    registry = registry_of(tracking, round.run)
    registry.tag_verdict(registry.version_of_round(round.number), verdict)
    return verdict


@task(name="promote", task_run_name="promote round {round.number}", **STAGE_OPTIONS)
def promote(round: Round, verdict: Verdict, tracking: TrackingSettings) -> Move:
    """Makes a round's model the champion, if the one it was compared with still is. Done once per verdict."""
    registry = registry_of(tracking, round.run)
    version = registry.version_of_round(round.number)
    expected = registry.version_of_round(verdict.champion).version if verdict.champion else None
    reason = (
        f"gate: {verdict.held_out.first:.3f} -> {verdict.held_out.second:.3f}, "
        f"probability {verdict.held_out.probability:.4f}"
    )
    return registry.promote(version, id=f"gate-round-{round.number}-{version.digest}", reason=reason, expected=expected)
