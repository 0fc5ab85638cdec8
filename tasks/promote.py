"""Tasks: a round's checkpoint becomes a version, is judged, and may become the champion."""

from prefect import task

from oel_core.config.run import OelConfig
from oel_core.gate.promotion import Verdict
from oel_core.rounds.context import CHECKPOINT
from oel_core.runs.folder import RunFolder
from oel_core.stages.gate import STAGE, VERDICT, read_verdict
from oel_core.stages.gate import gate as judge_round
from tasks.base import STAGE_OPTIONS
from tasks.tracking.client import tracker_of
from tasks.tracking.publishing import publish
from tasks.tracking.registry import Move, registry_of
from tasks.tracking.settings import TrackingSettings


@task(name="register", task_run_name="register round {round_index}", **STAGE_OPTIONS)
def register(run: RunFolder, round_index: int, tracking: TrackingSettings) -> str | None:
    """Registers the checkpoint that `distill` left as `candidate`; the same checkpoint is registered once."""
    digest = run.manifest(round_index, "distill").digest
    checkpoint = run.stage_path(round_index, "distill") / CHECKPOINT
    return tracker_of(tracking, run).register(str(round_index), checkpoint, digest)


@task(name="gate", task_run_name="gate round {round_index}", **STAGE_OPTIONS)
def gate(config: OelConfig, run: RunFolder, round_index: int, tracking: TrackingSettings) -> Verdict:
    """See `oel_core.stages.gate`. The verdict goes into the registry and becomes an artifact."""
    manifest = judge_round(config, run, round_index)
    verdict = read_verdict(run, round_index)
    publish(tracking, config, run, round_index, STAGE, manifest)
    tracker_of(tracking, run).log_file(str(round_index), run.stage_path(round_index, STAGE) / VERDICT, STAGE)
    registry = registry_of(tracking, run)
    registry.tag_verdict(registry.version_of_round(round_index), verdict)
    return verdict


@task(name="promote", task_run_name="promote round {round_index}", **STAGE_OPTIONS)
def promote(run: RunFolder, round_index: int, verdict: Verdict, tracking: TrackingSettings) -> Move:
    """Makes a round's model the champion, if the one it was judged against still is. Done once for each verdict."""
    registry = registry_of(tracking, run)
    version = registry.version_of_round(round_index)
    expected = registry.version_of_round(verdict.champion).version if verdict.champion else None
    reason = (
        f"gate: {verdict.held_out.first:.3f} -> {verdict.held_out.second:.3f}, "
        f"probability {verdict.held_out.probability:.4f}"
    )
    return registry.promote(version, id=f"gate-round-{round_index}-{version.digest}", reason=reason, expected=expected)
