"""The gradient of one optimiser step: the objective on the selected turns plus the retention terms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from oel_core.config.run import DistillConfig
from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.distributed.ranks import Ranks
from oel_core.distillation.forward.student import Student
from oel_core.distillation.objectives.retention import Retention, Term
from oel_core.distillation.objectives.top_turns import top_turns
from oel_core.distillation.regimes import Regime
from oel_core.distillation.training.rollouts import Rollout
from oel_core.distillation.training.update import Scores


@dataclass(frozen=True)
class StepLoss:
    """The values whose gradient one step applied."""

    scores: Scores
    """Of every rollout; `losses` are empty for those that were not trained on."""
    terms: Mapping[str, Term] = field(default_factory=dict)

    @property
    def loss(self) -> Tensor:
        """What was minimised, a scalar: the mean per response token, plus the weighted terms."""
        return self.scores.loss + sum(term.loss for term in self.terms.values())

    @property
    def trained(self) -> int:
        """Rollouts that were trained on."""
        return sum(len(losses) > 0 for losses in self.scores.losses)


class StepUpdate:
    """Adds a step's gradient to the student's.

    Args:
        student: the model that is trained.
        regime: the teacher and the objective.
        retention: further terms of the loss, or None.
        config: the distillation's settings.
        ranks: the processes that share the work.
    """

    def __init__(
        self, student: Student, regime: Regime, retention: Retention | None, config: DistillConfig, ranks: Ranks
    ) -> None:
        self._student = student
        self._regime = regime
        self._retention = retention
        self._config = config
        self._ranks = ranks

    def accumulate(self, rollouts: Sequence[Rollout], replayed: Sequence[Sample]) -> StepLoss:
        """One step's gradient, from all of its rollouts and the general prompts that are replayed in it.

        Raises:
            DistillationError: there is no rollout, or a response is empty.
            PolicyError: the student's logits are not finite at a replayed prompt.
        """
        scores = self._top(rollouts) if self._config.retention.top_turns is not None else self._learn(rollouts)
        terms = self._retention.accumulate(rollouts, replayed) if self._retention is not None else {}
        return StepLoss(scores, terms)

    def _learn(self, rollouts: Sequence[Rollout]) -> Scores:
        regime = self._regime
        return self._ranks.accumulate(self._student, regime.teacher, rollouts, self._config, objective=regime.objective)

    def _top(self, rollouts: Sequence[Rollout]) -> Scores:
        """Every turn is scored, and those that differ most are trained on: one more forward of the student."""
        regime, share = self._regime, self._config.retention.top_turns
        assert share is not None
        scores = self._ranks.measure(self._student, regime.teacher, rollouts, regime.objective)
        trajectories = [rollout.sample.id.rpartition("/")[0] for rollout in rollouts]
        kept = top_turns(trajectories, torch.stack([part.mean() for part in scores.divergence]).tolist(), share)
        learnt = self._learn([rollouts[place] for place in kept])
        losses = [part[:0] for part in scores.losses]
        for place, found in zip(kept, learnt.losses, strict=True):
            losses[place] = found
        return replace(scores, losses=losses)
