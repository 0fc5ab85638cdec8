"""Distill: trains a round's knowledge into the weights. Needs prompts and knowledge, no environment."""

import logging
from collections.abc import Sequence
from pathlib import Path

from oel_core.distillation.data.context import count_left_out
from oel_core.distillation.data.replay import digest_replay
from oel_core.distillation.training.step_records import StepRecord
from oel_core.errors import ArtifactError
from oel_core.preflight.caution import find_cautions
from oel_core.rounds.context import CHECKPOINT, DEFAULT_CONTEXT, StageContext
from oel_core.rounds.prompts import Prompts, deal_prompts, plan_prompts
from oel_core.rounds.round import Round
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
    "experience.distill_turns",
)
STAGE, STEPS = "distill", "steps.jsonl"


def distill(round: Round, context: StageContext = DEFAULT_CONTEXT) -> Manifest:
    """Trains the round's student on its partial rollouts and writes `checkpoint/` and `steps.jsonl`.

    Raises:
        ArtifactError: prompts or knowledge are missing, corrupt or over the cap, or made with other settings.
        ExtractionError: every knowledge file is empty and `knowledge.allow_empty` is not set.
        DistillationError: training cannot start or continue.
    """
    return round.perform(STAGE, SECTIONS, inputs_of(round), lambda folder: _train(round, folder, context))


def inputs_of(round: Round) -> dict[str, str]:
    """Inputs of a round's distillation, for its key. ArtifactError: an earlier stage has not finished."""
    inputs = {
        "policy": round.student_digest(),
        round.prompts_stage().name: round.prompts_stage().digest(),
        "knowledge": round.distilled_stage().digest(),
    }
    if round.config.experience.bundle is not None:  # so that its maker can tell what was trained on it
        inputs["bundle"] = round.prompts_stage().manifest().key.inputs["bundle"]
    replay = round.config.distill.retention.replay
    return inputs if replay is None else inputs | {"replay": digest_replay(replay)}


def _train(round: Round, folder: Path, context: StageContext) -> dict[str, float]:
    from oel_core.distillation.training import run as training

    config = round.config

    def on_step(step: StepRecord) -> None:
        context.on_progress(step.step, config.distill.steps)
        context.on_step(step)

    context.free_memory()
    for caution in find_cautions(config):
        logger.warning("%s", caution)
    distilled = round.knowledge()
    seed = derive_seed("distill", config.seed, round.number)
    prompts = _prompts(round, seed)
    checkpoint = training.distill(
        model=config.model,
        start=round.student(),
        steps=prompts.steps,
        responses=prompts.responses,
        knowledge=distilled.knowledge,
        weights=distilled.weights,
        injection=config.knowledge.injection,
        config=config.distill,
        workdir=folder,
        seed=seed,
        allow_empty=config.knowledge.allow_empty,
        on_step=on_step,
    )
    if checkpoint != folder / CHECKPOINT:
        raise ArtifactError(f"distillation left its checkpoint in {checkpoint}, not in {folder / CHECKPOINT}")
    counts = {"knowledge_files": len(distilled.knowledge), "left_out": count_left_out(folder)}
    return _counts(list(read_jsonl(folder / STEPS, StepRecord))) | counts


def _prompts(round: Round, seed: int) -> Prompts:
    if round.config.experience.bundle is not None:
        return deal_prompts(round.config, round.received_prompts(), round.number, seed)
    return plan_prompts(round.config, round.trajectories(Split.DISTILL), seed)


def _counts(steps: Sequence[StepRecord]) -> dict[str, float]:
    return {
        "steps": len(steps),
        "samples": sum(len(step.draws) for step in steps),
        "response_tokens": sum(step.response_tokens for step in steps),
        "first_loss": steps[0].loss,
        "last_loss": steps[-1].loss,
        "backtracks": steps[-1].backtracks,
    }
