"""Distils one round's knowledge into a checkpoint; resumable after a kill.

    distill(model=config.model, start="seed-lm", steps=steps, knowledge=knowledge, config=config.distill,
            workdir=folder, seed=seed)

The folder then holds `checkpoint/`, `steps.jsonl` and `inputs.json` (digests of the inputs). During training it also
holds `resume/`: the newest checkpoints of weights, optimizer, schedule, random generators and step.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from torch import Tensor

from oel_core.config.knowledge import InjectionConfig
from oel_core.config.run import DistillConfig, ModelConfig
from oel_core.config.student_rollouts import rollout_model
from oel_core.distillation.data.dataset import check_knowledge, check_responses
from oel_core.distillation.distributed.launch import launch
from oel_core.distillation.distributed.process import process_job
from oel_core.distillation.distributed.ranks import Ranks, SingleProcess
from oel_core.distillation.training.checkpoints import publish
from oel_core.distillation.training.interpolation import interpolate
from oel_core.distillation.training.job import Job
from oel_core.distillation.training.step_records import OnStep
from oel_core.errors import UnstableError
from oel_core.models.adapters import merge_lora
from oel_core.models.saving import save_model
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

    Call it again with the same arguments after a kill: it resumes from the newest checkpoint, with the same losses and
    the same final bytes. A finished distillation returns at once.

    Args:
        model: how the model is loaded; `lora` selects the trained parameters.
        start: initial weights of the student, and weights of the frozen teacher (`seed-lm`, a folder, a hub id).
        steps: the prompts of each optimizer step.
        knowledge: the round's knowledge files, one of which is sampled for each sample.
        workdir: output folder.
        seed: of the sampled knowledge files and responses; use a different one for each round.
        weights: relative sampling weights of the knowledge files; None samples uniformly.
        responses: collected responses by `<trajectory>/turn<number>`, for the regime `sft`.
        injection: how knowledge is inserted into the teacher's prompt.
        allow_empty: accept an empty knowledge file (`knowledge.allow_empty`).
        on_step: called after each step with its record. An exception ends the distillation, which can be resumed.

    Raises:
        ExtractionError: no knowledge, or an empty file without `allow_empty`.
        DistillationError: no prompts, prompts that do not fit the context window, a tokenizer that does not fit the
            model, or a non-finite loss.
        UnstableError: a metric left the bounds of `distill.stability`.
        ConfigError: `model.lora` does not fit `start`.
        ArtifactError: the folder belongs to other inputs, or a file in it is corrupt.
    """
    check_knowledge(knowledge, allow_empty=allow_empty or config.regime == "sft")
    check_responses(steps, responses, config)
    rollout_model(model, config)  # validates the settings
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
    """Trains from the newest checkpoint. Returns early after a rollback to an earlier one."""
    returns = len(job.backtracks.read())
    try:
        if job.config.processes * job.config.nodes > 1:
            launch(job, on_step)
        else:
            train(job, SingleProcess(), on_step)
    except UnstableError as error:
        if len(job.backtracks.read()) == returns:
            raise
        logger.warning("%s", error)  # resumes as after a kill


def train(job: Job, ranks: Ranks, on_step: OnStep | None = None) -> None:
    """Trains to the end in one process; rank 0 publishes the checkpoint. Errors as for `distill`."""
    student, tokenizer = job.load_student()
    trainer = job.trainer(student, tokenizer, job.build_steps(student, tokenizer), ranks, on_step)
    with closing(trainer.sampler):
        trainer.run()
    weights: Mapping[str, Tensor] | None = ranks.model_weights(student)
    if job.model.lora is not None and job.model.lora.merge:
        student = merge_lora(student)
    retention = job.config.retention
    for end, share in ((job.start, retention.start_share), (job.model.path, retention.base_share)):
        if share:
            weights = interpolate(student, weights, job.model, end, share)
    if ranks.rank == 0:
        publish(job.target, lambda folder: save_model(student, tokenizer, folder, weights=weights))
    ranks.wait()


if __name__ == "__main__":
    process_job(train)
