"""Consolidation of one round: partial rollouts and knowledge in, a checkpoint out; resumes where it was killed.

    distill(model=config.model, start="seed-lm", steps=steps, knowledge=knowledge, config=config.distill,
            workdir=folder, seed=seed)

The folder then holds `checkpoint/`, `steps.jsonl` and `inputs.json` (what the work was begun with). While it works it
also holds `resume/`: the newest checkpoints of weights, optimiser, schedule, generators and position.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from torch import Tensor

from oel_core.config.knowledge import InjectionConfig
from oel_core.config.run import DistillConfig, ModelConfig
from oel_core.config.student_rollouts import rollout_model
from oel_core.distillation.data.dataset import check_knowledge, check_responses
from oel_core.distillation.distributed.launch import launch, process_job
from oel_core.distillation.distributed.ranks import Alone, Ranks
from oel_core.distillation.training.checkpoints import publish
from oel_core.distillation.training.job import Job
from oel_core.distillation.training.step_records import OnStep
from oel_core.errors import UnstableError
from oel_core.models.loading import save_model
from oel_core.prompts.injection import GLOBAL
from oel_core.types import Knowledge, PartialRollout

logger = logging.getLogger(__name__)


def distill(
    *,
    model: ModelConfig,
    start: str,
    steps: Sequence[Sequence[PartialRollout]],
    knowledge: Sequence[Knowledge],
    config: DistillConfig,
    workdir: Path,
    seed: int,
    weights: Sequence[float] | None = None,
    responses: Mapping[str, Sequence[int]] | None = None,
    injection: InjectionConfig = GLOBAL,
    allow_empty: bool = False,
    on_step: OnStep | None = None,
) -> Path:
    """Distils `knowledge` into the weights of `start` and returns the folder of the new checkpoint.

    Called again after a kill with the same arguments, it goes on from its newest checkpoint to the same losses and
    the same final bytes. A finished distillation returns at once.

    Args:
        model: how the model is loaded; `lora` decides what is trained.
        start: first weights of the student, and those of the frozen teacher (`seed-lm`, a folder, a hub id).
        steps: the prompts of each optimiser step.
        knowledge: the round's knowledge files, one of which is drawn for each sample.
        workdir: everything is written here.
        seed: decides draws and responses; give every round its own.
        weights: how often each knowledge file is drawn, relative to the others; None draws all alike.
        responses: collected responses by `<trajectory>/turn<number>`, all that the regime `sft` learns from.
        injection: how the teacher's prompt carries knowledge.
        allow_empty: an empty knowledge file is wanted (`knowledge.allow_empty`).
        on_step: called after each step with its record. What it raises ends the distillation, which can be resumed.

    Raises:
        ExtractionError: no knowledge, or an empty file that is not wanted.
        DistillationError: no prompts, prompts that do not fit the context, a tokenizer that does not fit the model,
            or a loss that is not finite.
        UnstableError: the student has left the bounds of `distill.stability`.
        ConfigError: `model.lora` does not go with `start`.
        ArtifactError: the folder was begun with other inputs, or what it holds is damaged.
    """
    check_knowledge(knowledge, allow_empty=allow_empty or config.regime == "sft")
    check_responses(steps, responses, config)
    rollout_model(model, config)  # refuses settings that do not go together
    job = Job(
        model=model,
        start=start,
        steps=tuple(map(tuple, steps)),
        knowledge=tuple(knowledge),
        config=config,
        workdir=workdir,
        seed=seed,
        weights=None if weights is None else tuple(weights),
        responses=None if responses is None else {name: tuple(ids) for name, ids in responses.items()},
        injection=injection,
    )
    job.require_same_inputs()
    while not job.target.exists():
        _attempt(job, on_step)
    job.checkpoints.clear()
    return job.target


def _attempt(job: Job, on_step: OnStep | None) -> None:
    """Trains from the newest checkpoint. Returns early where `distill.stability` went back to an earlier one."""
    returns = len(job.backtracks.read())
    try:
        if job.config.processes > 1:
            launch(job, on_step)
        else:
            train(job, Alone(), on_step)
    except UnstableError as error:
        if len(job.backtracks.read()) == returns:
            raise
        logger.warning("%s", error)  # everything is loaded again, as after a kill


def train(job: Job, ranks: Ranks, on_step: OnStep | None = None) -> None:
    """What each process does: trains to the end; number 0 publishes the checkpoint. Errors as for `distill`."""
    student, tokenizer = job.load_student()
    trainer = job.trainer(student, tokenizer, job.build_steps(student, tokenizer), ranks, on_step)
    with closing(trainer.sampler):
        trainer.run()
    weights = ranks.model_weights(student)
    if ranks.index == 0:
        publish(job.target, lambda folder: _write(student, tokenizer, weights, folder))
    ranks.wait()


def _write(student: Any, tokenizer: Any, weights: Mapping[str, Tensor] | None, folder: Path) -> None:
    save_model(student, tokenizer, folder, weights=weights)


if __name__ == "__main__":
    process_job(train)
