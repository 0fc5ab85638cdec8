"""Distill: consolidates a round's knowledge into the weights. Needs no environment, only prompts and knowledge."""

import logging
from collections.abc import Sequence
from pathlib import Path

from oel_core.config.run import OelConfig
from oel_core.distillation.data.context import count_left_out
from oel_core.distillation.data.replay import digest_replay
from oel_core.distillation.training.step_records import StepRecord
from oel_core.errors import ArtifactError
from oel_core.preflight.caution import find_cautions
from oel_core.rounds.context import (
    CHECKPOINT,
    DEFAULT_CONTEXT,
    StageContext,
    load_trajectories,
    start_digest,
    start_model,
)
from oel_core.rounds.knowledge import distilled_digest, load_distilled
from oel_core.rounds.prompts import plan_prompts
from oel_core.runs.folder import RunFolder, stage_key
from oel_core.runs.jsonl import read_jsonl
from oel_core.runs.manifest import Manifest
from oel_core.seeds import derive_seed
from oel_core.types import Split

logger = logging.getLogger(__name__)
SECTIONS = (
    "seed",
    "model",
    "distill",
    "knowledge.allow_empty",
    "knowledge.max_tokens",
    "knowledge.selection",
    "knowledge.injection",
    "review.mode",
)
STEPS = "steps.jsonl"


def distill(config: OelConfig, run: RunFolder, round_index: int, context: StageContext = DEFAULT_CONTEXT) -> Manifest:
    """Trains the round's start model on its partial rollouts and leaves `checkpoint/` and `steps.jsonl`.

    Raises:
        ArtifactError: prompts or knowledge are missing, corrupt or over the cap, or made with other settings.
        ExtractionError: a knowledge file is empty and `knowledge.allow_empty` is not set.
        DistillationError: training cannot start or cannot go on.
    """
    inputs = {
        "policy": start_digest(config, run, round_index),
        "collect": run.manifest(round_index, "collect").digest,
        "knowledge": distilled_digest(config, run, round_index),
    }
    if config.distill.retention.replay is not None:
        inputs["replay"] = digest_replay(config.distill.retention.replay)
    key = stage_key(config, round_index, "distill", SECTIONS, inputs)
    return run.perform(key, lambda folder: _train(config, run, round_index, folder, context))


def _train(
    config: OelConfig, run: RunFolder, round_index: int, folder: Path, context: StageContext
) -> dict[str, float]:
    from oel_core.distillation.training import run as training

    def on_step(step: StepRecord) -> None:
        context.on_progress(step.step, config.distill.steps)
        context.on_step(step)

    context.free_memory()
    for caution in find_cautions(config):
        logger.warning("%s", caution)
    teaching = load_distilled(config, run, round_index)
    seed = derive_seed("distill", config.seed, round_index)
    prompts = plan_prompts(config, load_trajectories(run, round_index, Split.DISTILL), seed)
    checkpoint = training.distill(
        model=config.model,
        start=start_model(config, run, round_index),
        steps=prompts.steps,
        responses=prompts.responses,
        knowledge=teaching.knowledge,
        weights=teaching.weights,
        injection=config.knowledge.injection,
        config=config.distill,
        workdir=folder,
        seed=seed,
        allow_empty=config.knowledge.allow_empty,
        on_step=on_step,
    )
    if checkpoint != folder / CHECKPOINT:
        raise ArtifactError(f"distillation left its checkpoint in {checkpoint}, not in {folder / CHECKPOINT}")
    return _counts(list(read_jsonl(folder / STEPS, StepRecord)), count_left_out(folder))


def _counts(steps: Sequence[StepRecord], left_out: int) -> dict[str, float]:
    return {
        "steps": len(steps),
        "samples": sum(len(step.draws) for step in steps),
        "response_tokens": sum(step.response_tokens for step in steps),
        "first_loss": steps[0].loss,
        "last_loss": steps[-1].loss,
        "backtracks": steps[-1].backtracks,
        "left_out": left_out,
    }
