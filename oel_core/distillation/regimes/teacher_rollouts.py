"""Off-policy: the teacher answers with knowledge, and the student learns to write that without."""

from collections.abc import Sequence
from dataclasses import replace

from oel_core.config.run import DistillConfig
from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.objectives.losses import Objective
from oel_core.distillation.teachers.frozen import Teacher
from oel_core.distillation.training.rollouts import Rollout, Sampler


class TeacherRollouts:
    """Learns from the teacher's responses (context distillation, arXiv 2209.15189; sequence-level, arXiv 1606.07947).

    Args:
        teacher: who answers, and whom the student is compared with.
        config: the objective's settings.
        sampler: how responses are drawn.
    """

    def __init__(self, teacher: Teacher, config: DistillConfig, sampler: Sampler) -> None:
        self.objective = Objective.named(config)
        self.teacher = teacher
        self._sampler = sampler

    def roll_out(self, samples: Sequence[Sample]) -> list[Rollout]:
        """As `Regime.roll_out`. Samples of one knowledge file are answered together: they share its prompt."""
        by_draw: dict[int, list[Sample]] = {}
        for sample in samples:
            by_draw.setdefault(sample.knowledge_index, []).append(sample)
        asked = [[replace(sample, prompt=sample.teacher_prompt) for sample in members] for members in by_draw.values()]
        with self.teacher.answering() as model:
            answered = self._sampler.roll_out_groups(model, asked)
        found = {rollout.sample.index: rollout for rollout in answered}
        return [replace(found[sample.index], sample=sample) for sample in samples]
