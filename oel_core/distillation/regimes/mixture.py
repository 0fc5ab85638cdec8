"""Between on-policy and off-policy: each sample's response comes from the teacher with a set probability."""

from collections.abc import Sequence
from typing import Any

from oel_core.config.run import DistillConfig
from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.regimes.on_policy import OnPolicy
from oel_core.distillation.regimes.teacher_rollouts import TeacherRollouts
from oel_core.distillation.teachers.frozen import Teacher
from oel_core.distillation.training.rollouts import Rollout, Sampler


class Mixture(OnPolicy):
    """Learns from the teacher's responses and the student's own (generalised knowledge distillation, arXiv 2306.13649).

    Which sample is answered by whom is decided when the steps are built (`Sample.by_teacher`), so a resumed run and
    several processes decide alike. The objective is the same at the tokens of both.

    Args:
        student: the model that learns.
        teacher: who answers a share of the samples, and whom the student is compared with.
        config: the objective's settings.
        sampler: how responses are drawn.
    """

    def __init__(self, student: Any, teacher: Teacher, config: DistillConfig, sampler: Sampler) -> None:
        super().__init__(student, teacher, config, sampler)
        self._by_teacher = TeacherRollouts(teacher, config, sampler)

    def roll_out(self, samples: Sequence[Sample]) -> list[Rollout]:
        """As `Regime.roll_out`."""
        taught = [sample for sample in samples if sample.by_teacher]
        own = [sample for sample in samples if not sample.by_teacher]
        found = (self._by_teacher.roll_out(taught) if taught else []) + (super().roll_out(own) if own else [])
        by_index = {rollout.sample.index: rollout for rollout in found}
        return [by_index[sample.index] for sample in samples]
