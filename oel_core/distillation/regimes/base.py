"""What a regime decides: who writes the responses, who judges them, and by which measure."""

from collections.abc import Sequence
from typing import Protocol

from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.objectives.losses import Objective
from oel_core.distillation.teachers.frozen import Teacher
from oel_core.distillation.training.rollouts import Rollout


class Regime(Protocol):
    """Where a step's responses come from and what the student is trained on at their tokens."""

    objective: Objective
    """What is minimised at each response token."""
    teacher: Teacher
    """Who the student is compared with."""

    def roll_out(self, samples: Sequence[Sample]) -> list[Rollout]:
        """One response for each sample, in their order. PolicyError where a model's logits are not finite."""
        ...
