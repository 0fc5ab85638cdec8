"""The interface of a regime: response source, teacher and objective."""

from collections.abc import Sequence
from typing import Protocol

from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.objectives.losses import Objective
from oel_core.distillation.teachers.frozen import Teacher
from oel_core.distillation.training.rollouts import Rollout


class Regime(Protocol):
    """The source of a step's responses, and the loss at their tokens."""

    objective: Objective
    """The loss at each response token."""
    teacher: Teacher
    """Computes the target distribution."""

    def roll_out(self, samples: Sequence[Sample]) -> list[Rollout]:
        """One response for each sample, in their order. PolicyError where a model's logits are not finite."""
        ...
