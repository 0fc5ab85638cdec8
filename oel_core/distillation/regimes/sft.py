"""Supervised fine-tuning on the policy's own responses from passed episodes (rejection sampling); a baseline."""

from collections.abc import Sequence

from torch import Tensor

from oel_core.config.run import DistillConfig
from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.objectives.losses import Objective
from oel_core.distillation.teachers.frozen import Teacher
from oel_core.distillation.training.rollouts import Rollout, Tokens


def negative_log_likelihood(student: Tensor, teacher: Tensor) -> Tensor:
    """-log p_student of the given token (K = 1): cross entropy with the collected response. `teacher` is unused."""
    return -student.sum(-1)


class Sft:
    """Trains on collected responses, at temperature 1.

    Args:
        teacher: a placeholder.
        config: `clip` and `max_response_tokens` are used; longer responses are truncated.
        tokens: stop tokens; a response without one at its end counts as truncated.
    """

    def __init__(self, teacher: Teacher, config: DistillConfig, tokens: Tokens) -> None:
        self.objective = Objective("sampled", negative_log_likelihood, top_k=1, temperature=1.0, clip=config.clip)
        self.teacher = teacher
        self._tokens = tokens
        self._most = config.max_response_tokens

    def roll_out(self, samples: Sequence[Sample]) -> list[Rollout]:
        """The collected responses; nothing is generated."""
        rollouts = []
        for sample in samples:
            response = list(sample.response[: self._most])
            ended = bool(response) and response[-1] in self._tokens.stops
            rollouts.append(Rollout(sample, response, truncated=not ended))
        return rollouts
