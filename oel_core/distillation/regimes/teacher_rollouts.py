"""Off-policy: the teacher generates with knowledge, the student is trained on these responses without knowledge."""

from collections.abc import Sequence
from dataclasses import replace

from oel_core.config.run import DistillConfig
from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.objectives.losses import Objective
from oel_core.distillation.teachers.frozen import Teacher
from oel_core.distillation.training.rollouts import Rollout, Sampler


class TeacherRollouts:
    """Trains on the teacher's responses (context distillation, arXiv 2209.15189; sequence-level, arXiv 1606.07947).

    Args:
        teacher: generates the responses and computes the target distribution.
        config: the objective's settings.
        sampler: generates responses.
    """

    def __init__(self, teacher: Teacher, config: DistillConfig, sampler: Sampler) -> None:
        self.objective = Objective.named(config)
        self.teacher = teacher
        self._sampler = sampler

    def roll_out(self, samples: Sequence[Sample]) -> list[Rollout]:
        """As `Regime.roll_out`."""
        asked = [replace(sample, prompt=sample.teacher_prompt) for sample in samples]
        with self.teacher.generation_model() as model:
            used = {sample.knowledge_index for sample in samples}
            answered = self._sampler.roll_out(model, asked, lambda: self.teacher.prefilled(used))
        found = {rollout.sample.index: rollout for rollout in answered}
        return [replace(found[sample.index], sample=sample) for sample in samples]
