"""The gradient of one optimiser step: the objective on the selected turns plus the retention terms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from oel_core.config.run import DistillConfig
from oel_core.distillation.data.dataset import Sample
from oel_core.distillation.distributed.ranks import Ranks
from oel_core.distillation.forward.student import Student
from oel_core.distillation.objectives.masks import trained_indices
from oel_core.distillation.objectives.retention import Retention, Term
from oel_core.distillation.objectives.top_turns import top_turns
from oel_core.distillation.regimes import Regime
from oel_core.distillation.training.rollouts import Rollout
from oel_core.distillation.training.update import Scores


@dataclass(frozen=True)
class StepLoss:
    """The loss of one step, by its parts."""

    scores: Scores
    """Scores of every rollout; `losses` are those of trained tokens, so empty where a rollout was not trained on."""
    terms: Mapping[str, Term] = field(default_factory=dict)

    @property
    def loss(self) -> Tensor:
        """The minimised loss, a scalar: the mean per trained token, plus the weighted retention terms."""
        return self.scores.loss + sum(term.loss for term in self.terms.values())

    @property
    def trained(self) -> int:
        """Number of rollouts that were trained on."""
        return sum(len(losses) > 0 for losses in self.scores.losses)


class StepUpdate:
    """Accumulates a step's gradient in the student's parameters.

    Args:
        student: the model that is trained.
        regime: the teacher and the objective.
        retention: further terms of the loss, or None.
        config: the distillation's settings.
        ranks: the process group.
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
        """Accumulates the gradient of one step, from its unmasked rollouts and its replayed general prompts.

        Where all rollouts are masked there is no gradient, of the retention terms neither.

        Raises:
            DistillationError: there is no rollout, or a response is empty.
            PolicyError: the student's logits are not finite at a replayed prompt.
        """
        kept = trained_indices(rollouts, self._config.mask)
        trained = [rollouts[index] for index in kept]
        left_out = sorted(set(range(len(rollouts))) - set(kept))
        groups = [(left_out, _without_losses(self._measure([rollouts[index] for index in left_out])))]
        if trained:
            groups.append((kept, self._train(trained)))
        terms = self._retention.accumulate(trained, replayed) if self._retention is not None and trained else {}
        return StepLoss(_in_order(groups), terms)

    def _train(self, rollouts: Sequence[Rollout]) -> Scores:
        return (
            self._accumulate_top_turns(rollouts)
            if self._config.retention.top_turns is not None
            else self._accumulate(rollouts)
        )

    def _measure(self, rollouts: Sequence[Rollout]) -> Scores:
        if not rollouts:
            return Scores.empty()
        return self._ranks.measure(self._student, self._regime.teacher, rollouts, self._regime.objective)

    def _accumulate(self, rollouts: Sequence[Rollout]) -> Scores:
        regime, first = self._regime, self._config.mask.first_tokens
        masked = [replace(rollout, masked=first) for rollout in rollouts]
        scores = self._ranks.accumulate(self._student, regime.teacher, masked, self._config, objective=regime.objective)
        return replace(scores, losses=[part[first:] for part in scores.losses])

    def _accumulate_top_turns(self, rollouts: Sequence[Rollout]) -> Scores:
        """Scores every turn and trains on those with the largest divergence; costs one more forward of the student."""
        share, first = self._config.retention.top_turns, self._config.mask.first_tokens
        assert share is not None
        scores = _without_losses(self._measure(rollouts))
        trajectories = [rollout.sample.id.rpartition("/")[0] for rollout in rollouts]
        means = torch.stack([part[first:].mean() for part in scores.divergence]).tolist()
        kept = top_turns(trajectories, means, share)
        trained = self._accumulate([rollouts[index] for index in kept])
        for index, found in zip(kept, trained.losses, strict=True):
            scores.losses[index] = found
        return scores


def _without_losses(scores: Scores) -> Scores:
    return replace(scores, losses=[part[:0] for part in scores.losses])


def _in_order(groups: Sequence[tuple[Sequence[int], Scores]]) -> Scores:
    """Merges the scores of groups of rollouts, each with its indices among all rollouts, into their order."""
    order = [place for places, _ in groups for place in places]
    joined = ([tensor for _, scores in groups for tensor in getattr(scores, part.name)] for part in fields(Scores))
    return Scores(*([tensors[at] for at in sorted(range(len(order)), key=order.__getitem__)] for tensors in joined))
