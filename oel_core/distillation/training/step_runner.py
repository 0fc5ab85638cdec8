"""The phases of one optimizer step of context distillation, in the order in which the training loop calls them."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from oel_core.distillation.data.dataset import Step
from oel_core.distillation.distributed.ranks import Ranks
from oel_core.distillation.regimes import Regime
from oel_core.distillation.stability.backtracks import BacktrackLog
from oel_core.distillation.stability.monitor import StabilityMonitor
from oel_core.distillation.teachers.frozen import Teacher
from oel_core.distillation.training.checkpoints import CheckpointFolder
from oel_core.distillation.training.rollouts import Rollout
from oel_core.distillation.training.step_metrics import StepMetrics
from oel_core.distillation.training.step_records import OnStep, StepLog
from oel_core.distillation.training.step_update import StepLoss, StepUpdate
from oel_core.errors import DistillationError, PolicyError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """Files of a distillation, and its progress callback."""

    log: StepLog
    checkpoints: CheckpointFolder
    backtracks: BacktrackLog
    on_step: OnStep | None = None


class StepRunner(TrainerCallback):
    """Runs the phases of a step around the optimizer update of transformers' training loop.

    ========  =================================================================  ============================
    phase     operation                                                          where
    ========  =================================================================  ============================
    prepare   all-gather of sharded weights                                      `run`, by `training_step`
    roll out  a response to every prompt of the step                             `run`
    score     divergence from the teacher; gradients, summed over the ranks      `run`
    update    gradient clip, AdamW, learning rate schedule                       the inherited training loop
    teacher   a moving teacher (EMA, live) is updated from the student           `on_step_end`
    log       one line of the step log, progress, stability bounds               `on_log`
    ========  =================================================================  ============================

    The trainer saves a checkpoint after the last phase, so a step that raises in any phase leaves none.

    Args:
        regime: rollouts, teacher and objective.
        teacher: updated in the phase `teacher`; the regime's, unless that is a placeholder.
        update: accumulates the gradients of a step.
        monitor: checks the stability bounds.
        outputs: step log, checkpoints and progress callback.
        ranks: the process group.
    """

    def __init__(
        self,
        regime: Regime,
        teacher: Teacher,
        update: StepUpdate,
        monitor: StabilityMonitor,
        outputs: Outputs,
        ranks: Ranks,
    ) -> None:
        self._regime = regime
        self._teacher = teacher
        self._update = update
        self._monitor = monitor
        self._outputs = outputs
        self._ranks = ranks
        self.metrics: StepMetrics | None = None
        """Metrics of the newest step."""

    def run(self, step: Step, model: nn.Module) -> Tensor:
        """The phases before the update. Returns the mean loss per response token, a scalar.

        Raises:
            DistillationError: a response is empty, or logits, loss or divergence are not finite. Nothing has been
                updated then.
        """
        started = time.perf_counter()
        self._ranks.begin_step(model)
        self.metrics = metrics = StepMetrics(step, self.roll_out(step), started)
        model.train()
        metrics.result = self._score(step, metrics.rollouts)
        if names := metrics.non_finite():
            raise self.error(step, names, "the loss or divergence is not finite")
        self._ranks.end_step(model)
        return metrics.loss

    def roll_out(self, step: Step) -> list[Rollout]:
        """A response to every prompt of the step, in their order. DistillationError names those that have none."""
        try:
            rollouts = self._ranks.roll_out(step.samples, self._regime.roll_out)
        except PolicyError as error:
            raise self.error(step, [sample.id for sample in step.samples], str(error)) from error
        if empty := [rollout.sample.id for rollout in rollouts if not rollout.response]:
            raise self.error(step, empty, "responses are empty")
        return rollouts

    def _score(self, step: Step, rollouts: Sequence[Rollout]) -> StepLoss:
        try:
            return self._update.accumulate(rollouts, step.replay)
        except PolicyError as error:
            raise self.error(step, [sample.id for sample in step.replay], str(error)) from error

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Updates a moving teacher."""
        self._teacher.update()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Writes the step's record and checks it against the stability bounds.

        Raises:
            DistillationError: the gradient was not finite. The weights it was applied to are not saved.
            UnstableError: a metric left its bounds. The checkpoint before that is kept.
        """
        if logs is None or "grad_norm" not in logs:  # the training loop's summary after the last step
            return
        assert self.metrics is not None
        if not math.isfinite(logs["grad_norm"]):
            names = [sample.id for sample in self.metrics.step.samples]
            raise self.error(self.metrics.step, names, "the gradient is not finite")
        masses = self._regime.objective.support == "top_k"
        record = self.metrics.record(
            logs["grad_norm"], logs["learning_rate"], masses=masses, backtracks=self._monitor.backtracks
        )
        if self._ranks.rank == 0:
            self._outputs.log.append(record)
            logger.info("step %d: loss %.5f, entropy %.3f", record.step, record.loss, record.entropy)
            if self._outputs.on_step is not None:
                self._outputs.on_step(record)
        self._monitor.check(record)

    def error(self, step: Step, samples: Sequence[str], reason: str) -> DistillationError:
        """An error that names the step, the reason, the samples and the last good checkpoint."""
        good = self._outputs.checkpoints.latest()
        shown = ", ".join(samples[:8]) + (f" and {len(samples) - 8} more" if len(samples) > 8 else "")
        return DistillationError(
            f"distillation stopped at step {step.number}: {reason}. Samples: {shown}. "
            f"Last good checkpoint: {good or 'none yet, the start of the round'}. "
            "Lower distill.learning_rate, or inspect these samples"
        )
