"""KL penalties against the reference model (the model of the round's start), which limit forgetting.

All terms are KL(student || reference) over the whole vocabulary, for any `distill.objective`: value and gradient are
zero where the two agree. A sum over the top-k is not: its gradient there pushes mass out of the top-k.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch

from oel_core.config.run import DistillConfig
from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.distributed.ranks import Ranks
from oel_core.distillation.forward.student import Student
from oel_core.distillation.objectives.counterfactual import Words, counterfactual
from oel_core.distillation.objectives.losses import Objective, truncated_reverse_kl
from oel_core.distillation.teachers.frozen import FrozenAdapter, FrozenCopy, Teacher
from oel_core.distillation.teachers.shared_prefix import Prefixes
from oel_core.distillation.training.rollouts import Rollout, Sampler
from oel_core.distillation.training.update import Scores
from oel_core.models.adapters import is_lora
from oel_core.seeds import derive_seed


class ReferenceAdapter(FrozenAdapter):
    """The reference adapter, beside the teacher's own."""

    name = "reference"


def make_reference(
    student: Any, dtype: torch.dtype, teacher: Teacher, prefixes: Prefixes, config: DistillConfig, max_length: int
) -> Teacher | None:
    """The reference model, where a term needs one: the frozen teacher or, where there is none, another copy.

    Arguments as for `make_teacher`, before the student's first step.
    """
    if not config.retention.has_reference:
        return None
    if isinstance(teacher, FrozenCopy | FrozenAdapter) and config.teacher == "frozen":
        return teacher
    if is_lora(student):
        return ReferenceAdapter(student, prefixes, config, max_length)
    return FrozenCopy(student, dtype, prefixes, config, max_length)


@dataclass(frozen=True)
class Term:
    """One retention term of a step."""

    weight: float
    scores: Scores

    @property
    def loss(self) -> float:
        """Its weighted contribution to the step's loss."""
        return self.weight * float(self.scores.loss)


class Retention:
    """The configured penalty terms.

    Args:
        student: the model that is trained.
        reference: the reference model.
        config: the distillation's settings.
        sampler: generates the responses to replayed prompts.
        ranks: the process group.
        tokenizer: the student's.

    Raises:
        ConfigError: the counterfactual term is set, and the tokenizer has no words.
    """

    def __init__(
        self,
        student: Student,
        reference: Teacher,
        config: DistillConfig,
        sampler: Sampler,
        ranks: Ranks,
        tokenizer: Any,
    ) -> None:
        self._student = student
        self._reference = reference
        self._config = config
        self._sampler = sampler
        self._ranks = ranks
        self._words = Words.of(tokenizer) if config.retention.counterfactual_weight else None
        self._objective = Objective("all", truncated_reverse_kl, config.top_k, config.temperature, clip=None)

    def accumulate(self, rollouts: Sequence[Rollout], replayed: Sequence[Sample]) -> dict[str, Term]:
        """Adds the gradient of the configured terms; each is a mean over its own response tokens.

        Args:
            rollouts: of the step.
            replayed: general prompts; the student's responses are generated here.

        Raises:
            PolicyError: the student's logits are not finite.
        """
        settings, terms = self._config.retention, {}
        if settings.in_context_weight:
            in_context = _with_knowledge(of_some_files(rollouts, settings.in_context_files))
            terms["in_context"] = self._term(in_context, settings.in_context_weight)
        if self._words is not None:
            renamed = counterfactual(of_some_files(rollouts, settings.counterfactual_files), self._words)
            if renamed:
                terms["counterfactual"] = self._term(_with_knowledge(renamed), settings.counterfactual_weight)
        if settings.replay is not None:
            model = self._student.split.model
            answered = self._ranks.roll_out(replayed, lambda part: self._sampler.roll_out(model, part))
            terms["replay"] = self._term(answered, settings.replay.weight)
        return terms

    def _term(self, rollouts: Sequence[Rollout], weight: float) -> Term:
        share = weight / sum(len(rollout.response) for rollout in rollouts)
        return Term(
            weight,
            self._ranks.accumulate(
                self._student, self._reference, rollouts, self._config, weight=share, objective=self._objective
            ),
        )


def _with_knowledge(rollouts: Sequence[Rollout]) -> list[Rollout]:
    """The rollouts with the teacher's prompts as the student's."""
    return [replace(one, sample=replace(one.sample, prompt=one.sample.teacher_prompt)) for one in rollouts]


def of_some_files(rollouts: Sequence[Rollout], files: int | None) -> list[Rollout]:
    """The rollouts of `files` knowledge files, sampled by the seed of the first rollout; all for None."""
    present = sorted({one.sample.knowledge_index for one in rollouts})
    if files is None or files >= len(present):
        return list(rollouts)
    chosen = set(Random(derive_seed("in_context_files", rollouts[0].sample.seed)).sample(present, files))
    return [one for one in rollouts if one.sample.knowledge_index in chosen]
