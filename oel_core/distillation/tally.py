"""What is known of a step while its micro-batches are scored, and the record it ends in."""

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from oel_core.distillation.dataset import Step
from oel_core.distillation.records import StepRecord, draw_stats
from oel_core.distillation.rollouts import Rollout


class StepTally:
    """Sums of one step. `rollouts` are in the order of the step's samples; micro-batches may come in any order."""

    def __init__(self, step: Step, rollouts: Sequence[Rollout], started: float) -> None:
        """`started` is the reading of `time.perf_counter` when the step began."""
        self.step = step
        self.rollouts = tuple(rollouts)
        self.tokens = sum(len(rollout.response) for rollout in rollouts)
        self._started = started
        self._kl: list[Tensor] = []
        self._entropy: list[Tensor] = []
        self._scored: list[Rollout] = []

    def add(self, batch: Sequence[Rollout], kl: Tensor, entropy: Tensor) -> None:
        """Per-token KL and entropy of a micro-batch, both of shape (N,), rows in the order of its response tokens."""
        self._scored.extend(batch)
        self._kl.append(kl.detach())
        self._entropy.append(entropy)

    @property
    def loss(self) -> Tensor:
        """Mean KL over all response tokens of the step, a scalar."""
        return torch.cat(self._kl).sum() / self.tokens

    def sample_kl(self) -> list[float]:
        """Mean KL per response token of each sample, in the order of the samples."""
        parts = torch.cat(self._kl).split([len(rollout.response) for rollout in self._scored])
        means = torch.stack([part.mean() for part in parts]).tolist()
        by_index = dict(zip((rollout.sample.index for rollout in self._scored), means, strict=True))
        return [by_index[rollout.sample.index] for rollout in self.rollouts]

    def broken(self) -> list[str]:
        """Ids of the samples whose loss is not finite."""
        if math.isfinite(float(self.loss)):
            return []
        return [
            rollout.sample.id
            for rollout, kl in zip(self.rollouts, self.sample_kl(), strict=True)
            if not math.isfinite(kl)
        ]

    def record(self, grad_norm: float, lr: float) -> StepRecord:
        """The step's line, once its update is done."""
        replicas = tuple(rollout.sample.replica for rollout in self.rollouts)
        kl = float(self.loss)
        return StepRecord(
            step=self.step.number,
            loss=kl,
            kl=kl,
            entropy=float(torch.cat(self._entropy).mean()),
            grad_norm=grad_norm,
            lr=lr,
            response_tokens=self.tokens,
            response_length=self.tokens / len(self.rollouts),
            truncation_rate=sum(rollout.truncated for rollout in self.rollouts) / len(self.rollouts),
            draws=replicas,
            draw_kl=draw_stats(replicas, self.sample_kl()),
            wall_s=time.perf_counter() - self._started,
            tokens=self.tokens + sum(len(rollout.sample.prompt) for rollout in self.rollouts),
        )
