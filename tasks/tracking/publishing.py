"""Logs finished stages to the tracking server, once for each state of a stage."""

from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

from oel_core.distillation.training.step_records import StepRecord
from oel_core.knowledge.selection_records import SCORES
from oel_core.models.checkpoints import is_adapter
from oel_core.prompts.extraction.base import transcript
from oel_core.rounds.context import CHECKPOINT, EPISODES, REPORT, TRAJECTORIES
from oel_core.rounds.round import Round
from oel_core.rounds.summary import summarise_round
from oel_core.runs.folder import MANIFEST
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.manifest import Manifest, freed_files, read_record
from oel_core.stages.accumulate import FLAGGED
from oel_core.stages.distill import STEPS
from oel_core.stages.exchange.receive import BUNDLE
from oel_core.stages.review import REVIEW
from oel_core.stages.saturation import CURVE, SaturationCurve
from oel_core.types import EvalReport, Trajectory
from tasks.tracking.datasets import experience, measured
from tasks.tracking.target import Target

Publish = Callable[[Target, Round, str], None]
STEP_METRICS = (
    *("loss", "kl", "entropy", "grad_norm", "lr", "student_mass", "teacher_mass"),
    *("response_length", "truncation_rate", "repetition_rate", "response_tokens", "backtracks"),
)
REPORT_METRICS = ("pass_rate", "response_tokens", "turns", "trajectory_tokens", "truncation_rate", "invalid_rate")


def publish(target: Target, round: Round, stage: str, manifest: Manifest) -> None:
    """Logs a finished stage: its counts, its manifest, and what is specific to its kind."""
    tracker, name, place = target.tracker, target.name, target.prefix + stage
    if tracker.is_logged(name, place, manifest.digest):
        return
    target.log_metrics((f"{stage}/{key}", value, round.number) for key, value in manifest.counts.items())
    if add := KINDS.get(stage.split("/")[0]):
        add(target, round, stage)
    target.log_file(round.stage(stage).path / MANIFEST, f"manifests/{stage}")
    tracker.mark_logged(name, place, manifest.digest)


def publish_step(target: Target, step: StepRecord) -> None:
    """Logs one optimiser step."""
    target.log_metrics(step_rows(step, target.steps_before + step.step))


def step_rows(step: StepRecord, at: int) -> Iterable[tuple[str, float, int]]:
    """The metrics of an optimiser step, logged at `at`, without those that its objective lacks."""
    found = ((field, getattr(step, field)) for field in STEP_METRICS)
    return ((f"train/{field}", float(value), at) for field, value in found if value is not None)


def _collected(target: Target, round: Round, stage: str) -> None:
    target.tracker.log_dataset(target.name, experience(round, stage))
    _transcripts(target, round.stage(stage).path / TRAJECTORIES, stage)


def _received(target: Target, round: Round, stage: str) -> None:
    target.log_file(round.stage(stage).path / BUNDLE, stage)


def _accumulated(target: Target, round: Round, stage: str) -> None:
    folder = round.stage(stage).path
    for path in sorted([*folder.glob("knowledge_*"), *folder.glob(FLAGGED)]):
        target.log_file(path, "knowledge")


def _reviewed(target: Target, round: Round, stage: str) -> None:
    folder = round.stage(stage).path
    for path in [folder / REVIEW, *sorted(folder.glob("knowledge_*"))]:
        target.log_file(path, stage)


def _selected(target: Target, round: Round, stage: str) -> None:
    target.log_file(round.stage(stage).path / SCORES, stage)


def _saturated(target: Target, round: Round, stage: str) -> None:
    path = round.stage(stage).path / CURVE
    curve = read_record(path, SaturationCurve)
    target.log_metrics((f"{target.prefix}{stage}/pass_rate", rate, episodes) for episodes, rate in curve.means())
    target.log_file(path, stage)


def _distilled(target: Target, round: Round, stage: str) -> None:
    folder = round.stage(stage).path
    steps = read_jsonl(folder / STEPS, StepRecord)
    target.log_metrics(chain.from_iterable(step_rows(step, target.steps_before + step.step) for step in steps))
    target.log_file(folder / STEPS, stage)
    policy = target.tracker.settings.artifacts.checkpoints
    if policy == "all" or (policy == "adapters" and is_adapter(folder / CHECKPOINT)):
        target.log_file(folder / CHECKPOINT, CHECKPOINT)


def _evaluated(target: Target, round: Round, stage: str) -> None:
    folder = round.stage(stage).path
    report = read_record(folder / REPORT, EvalReport)
    target.log_metrics((f"{stage}/{field}", getattr(report, field), round.number) for field in REPORT_METRICS)
    target.log_metrics((f"{stage}/{field}", value, round.number) for field, value in own_figures(report))
    target.log_file(folder / REPORT, stage)
    target.tracker.log_dataset(target.name, measured(round, stage))
    _transcripts(target, folder / EPISODES, stage)
    row = summarise_round(round)
    figures = row.model_dump(exclude={"round", "ci95", "ood"}) | {f"ood/{name}": rate for name, rate in row.ood.items()}
    rows = [(key, value, round.number) for key, value in figures.items() if value is not None]
    for name in (*target.summarised_in, target.name):  # beside the long names, since these are the table's columns
        target.tracker.log_metrics(name, rows)


def own_figures(report: EvalReport) -> list[tuple[str, float]]:
    """The suite's additional metrics, under names that the tracking server accepts."""
    found = {
        name: entry["value"] for name, entry in report.extra.items() if isinstance(entry, dict) and "value" in entry
    }
    found |= report.extra.get("figures", {})
    return [(name.replace(",", "."), float(value)) for name, value in found.items()]


KINDS: dict[str, Publish] = {
    "collect": _collected,
    "receive": _received,
    "accumulate": _accumulated,
    "review": _reviewed,
    "select": _selected,
    "saturation": _saturated,
    "distill": _distilled,
    "evaluate": _evaluated,
}


def _transcripts(target: Target, path: Path, stage: str) -> None:
    """A few won and a few lost episodes as readable text; none of a compacted round."""
    if path.name in freed_files(path.parent):
        return
    most = target.tracker.settings.artifacts.transcripts
    chosen: dict[bool, list[Trajectory]] = {True: [], False: []}
    for episode in read_jsonl(path, Trajectory):
        if len(chosen[episode.passed]) < most:
            chosen[episode.passed].append(episode)
        if all(len(found) == most for found in chosen.values()):
            break
    for passed, episodes in chosen.items():
        for episode in episodes:
            file = f"{target.prefix}transcripts/{stage}/{'won' if passed else 'lost'}-{episode.id}.txt"
            target.tracker.log_text(target.name, _readable(episode), file)


def _readable(episode: Trajectory) -> str:
    head = f"{episode.id} (seed {episode.seed}, {episode.policy}), reward {episode.reward}\n{episode.intro}"
    tail = f"Error: {episode.error}" if episode.error else f"Feedback: {episode.feedback}"
    return f"{head}\n\n{transcript(episode, None)}\n{tail}\n"
