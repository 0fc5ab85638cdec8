"""Metrics of one optimizer step and their record."""

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from oel_core.distillation.data.dataset import Step
from oel_core.distillation.stability.repetition import repetition_rate
from oel_core.distillation.training.rollouts import Rollout
from oel_core.distillation.training.step_records import StepRecord, kl_by_replica
from oel_core.distillation.training.step_update import StepLoss
from oel_core.distillation.training.update import Scores


class StepMetrics:
    """A step with its rollouts, in the order of its samples, and its scores once computed."""

    def __init__(self, step: Step, rollouts: Sequence[Rollout], started: float) -> None:
        """`started`: `time.perf_counter()` at the start of the step."""
        self.step = step
        self.rollouts = tuple(rollouts)
        self.tokens = sum(len(rollout.response) for rollout in rollouts)
        self.result = StepLoss(Scores.empty())
        self._started = started

    @property
    def loss(self) -> Tensor:
        """The step's loss, a scalar."""
        return self.result.loss

    @property
    def scores(self) -> Scores:
        """Of the rollouts."""
        return self.result.scores

    def sample_kl(self) -> list[float]:
        """Mean divergence per response token of each sample."""
        return torch.stack([part.mean() for part in self.scores.divergence]).tolist()

    def non_finite(self) -> list[str]:
        """Ids of the samples, and names of the retention terms, whose loss or divergence is not finite.

        Both are checked, since a divergence may be clipped or belong to a turn that is not trained on.
        """
        if math.isfinite(float(self.loss)) and bool(torch.cat(self.scores.divergence).isfinite().all()):
            return []
        scored = zip(self.rollouts, self.scores.divergence, self.scores.losses, strict=True)
        names = [rollout.sample.id for rollout, *values in scored if not torch.cat(values).isfinite().all()]
        terms = [f"the term {name}" for name, term in self.result.terms.items() if not math.isfinite(term.loss)]
        return names + terms

    def record(self, grad_norm: float, lr: float, *, masses: bool, backtracks: int) -> StepRecord:
        """The step's record, after its update.

        Args:
            grad_norm: before clipping.
            lr: learning rate of the step.
            masses: whether to record the probability mass on the top-k (top-k objectives).
            backtracks: number of rollbacks before this step.
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
            draw_kl=kl_by_replica(replicas, self.sample_kl()),
            wall_s=time.perf_counter() - self._started,
            tokens=self.tokens + sum(len(rollout.sample.prompt) for rollout in self.rollouts),
            terms={name: float(term.scores.loss) for name, term in self.result.terms.items()} or None,
            trained_tokens=self.scores.tokens if self.scores.tokens < self.tokens else None,
            trained_turns=self.result.trained if self.result.trained < len(self.rollouts) else None,
        )
