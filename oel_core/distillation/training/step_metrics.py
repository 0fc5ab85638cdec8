"""Metrics of one optimiser step, and the record that they become."""

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from oel_core.distillation.data.dataset import Step
from oel_core.distillation.objectives.retention import term_values
from oel_core.distillation.stability.repetition import repetition_rate
from oel_core.distillation.training.rollouts import Rollout
from oel_core.distillation.training.step_records import StepRecord, draw_stats
from oel_core.distillation.training.step_update import StepLoss
from oel_core.distillation.training.update import Scores


class StepMetrics:
    """A step with its rollouts, in the order of its samples, and, once they are there, their scores."""

    def __init__(self, step: Step, rollouts: Sequence[Rollout], started: float) -> None:
        """`started` is the reading of `time.perf_counter` when the step began."""
        self.step = step
        self.rollouts = tuple(rollouts)
        self.tokens = sum(len(rollout.response) for rollout in rollouts)
        self.result = StepLoss(Scores.nothing())
        self._started = started

    @property
    def loss(self) -> Tensor:
        """What the step minimised, a scalar."""
        return self.result.loss

    @property
    def scores(self) -> Scores:
        """Of the rollouts."""
        return self.result.scores

    def sample_kl(self) -> list[float]:
        """Mean divergence per response token of each sample."""
        return torch.stack([part.mean() for part in self.scores.divergence]).tolist()

    def broken(self) -> list[str]:
        """Ids of the samples, and names of the retention terms, whose loss or divergence is not finite.

        A divergence need not show in the loss: the clip bounds it, or its turn is not one that is trained on.
        """
        if math.isfinite(float(self.loss)) and bool(torch.cat(self.scores.divergence).isfinite().all()):
            return []
        scored = zip(self.rollouts, self.scores.divergence, self.scores.losses, strict=True)
        names = [rollout.sample.id for rollout, *values in scored if not torch.cat(values).isfinite().all()]
        terms = [f"the term {name}" for name, term in self.result.terms.items() if not math.isfinite(term.loss)]
        return names + terms

    def record(self, grad_norm: float, lr: float, *, masses: bool, backtracks: int) -> StepRecord:
        """The step's line, once its update is done.

        Args:
            grad_norm: before clipping.
            lr: of the step.
            masses: the objective looks at the student's top-k, so that the mass there says something.
            backtracks: how often the round has gone back before this step.
        """
        replicas = tuple(rollout.sample.replica for rollout in self.rollouts)
        return StepRecord(
            step=self.step.number,
            loss=float(self.loss),
            kl=float(torch.cat(self.scores.divergence).mean()),
            entropy=float(torch.cat(self.scores.entropy).mean()),
            grad_norm=grad_norm,
            lr=lr,
            response_tokens=self.tokens,
            response_length=self.tokens / len(self.rollouts),
            truncation_rate=sum(rollout.truncated for rollout in self.rollouts) / len(self.rollouts),
            repetition_rate=repetition_rate([rollout.response for rollout in self.rollouts]),
            student_mass=float(torch.cat(self.scores.student_mass).mean()) if masses else None,
            teacher_mass=float(torch.cat(self.scores.teacher_mass).mean()) if masses else None,
            backtracks=backtracks,
            draws=replicas,
            draw_kl=draw_stats(replicas, self.sample_kl()),
            wall_s=time.perf_counter() - self._started,
            tokens=self.tokens + sum(len(rollout.sample.prompt) for rollout in self.rollouts),
            terms=term_values(self.result.terms) or None,
            trained_tokens=self.scores.tokens if self.scores.tokens < self.tokens else None,
            trained_turns=self.result.trained if self.result.trained < len(self.rollouts) else None,
        )
