"""Distillations of the embedded model whose rollouts a real engine draws, and what must be true of it afterwards."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from oel_core.config.run import DistillConfig, ModelConfig
from oel_core.config.sampling import Sampling
from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.distributed.ranks import SingleProcess
from oel_core.distillation.training.job import Job
from oel_core.distillation.training.rollouts import Sampler
from oel_core.models.checkpoints import SEED_LM
from oel_core.policies.base import Request
from oel_core.types import PartialRollout
from tests.distillation.builders import knowledge

STEPS = 2
RULE = knowledge("- EXPERIENCE ITEM: 'H' ends the game in failure: never step on it.")


def trained(
    model: ModelConfig, workdir: Path, requests: Sequence[Request], *, learning_rate: float
) -> tuple[Any, Sampler, tuple[Sample, ...]]:
    """The student after two steps, its sampler (still open), and the prompts of the last step."""
    prompts = [
        PartialRollout(trajectory_id=f"e{number}", turn=0, messages=request.messages)
        for number, request in enumerate(requests)
    ]
    config = DistillConfig(
        steps=STEPS,
        learning_rate=learning_rate,
        max_response_tokens=32,
        rollouts=model.backend,
    )
    job = Job(
        model=model,
        start=SEED_LM,
        steps=(tuple(prompts),) * STEPS,
        knowledge=(RULE,),
        config=config,
        workdir=workdir,
        seed=3,
    )
    student, tokenizer = job.load_student()
    built = job.build_steps(student, tokenizer)
    trainer = job.trainer(student, tokenizer, built, SingleProcess(), None)
    trainer.run()
    return student, trainer.sampler, built[-1].samples


def same_greedy_answers(student: Any, sampler: Sampler, samples: Sequence[Sample]) -> list[list[int]]:
    """What the student says now, which the engine must say too, token for token."""
    sampling = Sampling(temperature=0, max_tokens=32)
    theirs = replace(sampler, sampling=sampling).roll_out(student, samples)
    own = Sampler(sampling, sampler.tokens, len(samples)).roll_out(student, samples)
    assert theirs == own
    return [rollout.response for rollout in own]
