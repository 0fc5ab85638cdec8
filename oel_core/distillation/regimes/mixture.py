"""A mixture of on-policy and off-policy: the teacher generates each response with a configured probability."""

from collections.abc import Sequence
from typing import Any

from oel_core.config.run import DistillConfig
from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.regimes.on_policy import OnPolicy
from oel_core.distillation.regimes.teacher_rollouts import TeacherRollouts
from oel_core.distillation.teachers.frozen import Teacher
from oel_core.distillation.training.rollouts import Rollout, Sampler


class Mixture(OnPolicy):
    """Trains on responses of both teacher and student (generalised knowledge distillation, arXiv 2306.13649).

    The choice per sample is made when the steps are built (`Sample.by_teacher`), so it is the same in a resumed run and
    for any number of processes. The objective is the same for both kinds of responses.

    Args:
        student: the model that is trained.
        teacher: computes the target distribution and generates a share of the responses.
        config: the objective's settings.
        sampler: generates responses.
        known: as for `TeacherRollouts`.
    """

    def __init__(
        self,
        student: Any,
        teacher: Teacher,
        config: DistillConfig,
        sampler: Sampler,
        known: Sequence[Sequence[Sample]] = (),
    ) -> None:
        super().__init__(student, teacher, config, sampler)
        by_teacher = [[sample for sample in samples if sample.by_teacher] for samples in known]
        self._by_teacher = TeacherRollouts(teacher, config, sampler, by_teacher)

    def roll_out(self, samples: Sequence[Sample]) -> list[Rollout]:
        """As `Regime.roll_out`."""
        by_teacher = [sample for sample in samples if sample.by_teacher]
        by_student = [sample for sample in samples if not sample.by_teacher]
        found = (self._by_teacher.roll_out(by_teacher) if by_teacher else []) + (
            super().roll_out(by_student) if by_student else []
        )
        by_index = {rollout.sample.index: rollout for rollout in found}
        return [by_index[sample.index] for sample in samples]
