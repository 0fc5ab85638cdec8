"""On-policy: the student generates without knowledge, the teacher scores the responses with knowledge."""

from collections.abc import Sequence
from typing import Any

from oel_core.config.run import DistillConfig
from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.objectives.losses import Objective
from oel_core.distillation.teachers.frozen import Teacher
from oel_core.distillation.training.rollouts import Rollout, Sampler


class OnPolicy:
    """Trains on the student's own responses (arXiv 2603.16856; on-policy distillation, arXiv 2306.13649).

    Args:
        student: the model that is trained.
        teacher: computes the target distribution.
        config: the objective's settings.
        sampler: generates responses.
    """

    def __init__(self, student: Any, teacher: Teacher, config: DistillConfig, sampler: Sampler) -> None:
        self.objective = Objective.named(config)
        self.teacher = teacher
        self._student = student
        self._sampler = sampler

    def roll_out(self, samples: Sequence[Sample]) -> list[Rollout]:
        """As `Regime.roll_out`."""
        return self._sampler.roll_out(self._student, samples)
