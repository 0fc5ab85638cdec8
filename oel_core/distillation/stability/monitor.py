"""Early stopping of a diverging distillation, before its last good checkpoint is overwritten."""

import logging
from collections.abc import Sequence

from oel_core.config.run import DistillConfig
from oel_core.distillation.distributed.ranks import Ranks
from oel_core.distillation.stability.backtracks import RATE, Backtrack, BacktrackLog
from oel_core.distillation.stability.signals import Breach, advice, find_breaches, signals
from oel_core.distillation.training.checkpoints import CheckpointFolder, step_of
from oel_core.distillation.training.step_records import StepRecord
from oel_core.errors import UnstableError

logger = logging.getLogger(__name__)


class StabilityMonitor:
    """Checks every step record of a round. All ranks check the same records and so decide alike.

    Args:
        config: the bounds and the policy (`distill.stability`).
        vocabulary: V, the student's.
        checkpoints: of the distillation.
        backtracks: the log of rollbacks.
        ranks: the process group.
    """

    def __init__(
        self,
        config: DistillConfig,
        vocabulary: int,
        checkpoints: CheckpointFolder,
        backtracks: BacktrackLog,
        ranks: Ranks,
    ) -> None:
        self._config = config
        self._signals = signals(config, vocabulary)
        self._checkpoints = checkpoints
        self._log = backtracks
        self._ranks = ranks
        self._history: list[StepRecord] = []
        self._breaches: list[Breach] = []
        self.backtracks = len(backtracks.read())
        """Number of rollbacks in this round so far."""

    @property
    def within_bounds(self) -> bool:
        """No metric was out of bounds in the newest step."""
        return not self._breaches

    def begin(self, history: Sequence[StepRecord]) -> None:
        """Restores the records of the steps before a resume."""
        self._history = list(history)

    def pending_rate_factor(self) -> float:
        """Factor by which the learning rate in the newest step's checkpoint must still be multiplied."""
        return RATE ** (self.backtracks - self._history[-1].backtracks)

    def check(self, record: StepRecord) -> None:
        """Checks the record of one more step.

        Raises:
            UnstableError: a metric has been out of bounds for `patience` consecutive steps. Checkpoints later than the
                last good one have been removed, and a rollback, if there is to be one, has been recorded.
        """
        settings = self._config.stability
        self._history.append(record)
        if settings.policy == "off":
            return
        self._breaches = find_breaches(self._signals, self._history)
        for breach in self._breaches:
            logger.warning("%s", breach)
        lasting = [breach for breach in self._breaches if len(breach.records) >= settings.patience]
        if lasting:
            self._stop(lasting)

    def _stop(self, breaches: Sequence[Breach]) -> None:
        """Removes the checkpoints after the newest one within bounds, records a rollback, and raises.

        A step's metrics describe the weights it starts from, so a checkpoint is good if the next step is within bounds.
        Removal comes before the record: a round killed in between repeats both.
        """
        step, reason = self._history[-1].step, "; ".join(map(str, breaches))
        good = self._checkpoints.newest_before(min(breach.since for breach in breaches) - 1)
        rolls_back = (
            self._config.stability.policy == "backtrack" and self.backtracks < self._config.stability.backtracks
        )
        self._ranks.wait()  # every rank has listed the checkpoints
        if self._ranks.rank == 0:
            self._checkpoints.drop_after(step_of(good))
            if rolls_back:
                self._log.append(Backtrack(step=step, to=step_of(good), reason=reason))
        self._ranks.wait()  # rank 0 has removed checkpoints
        rate = self._config.learning_rate * RATE**self.backtracks
        ending = (
            f"It resumes from step {step_of(good)} with the learning rate {RATE * rate:g} instead of {rate:g}"
            if rolls_back
            else f"Last good checkpoint: {good or 'none yet, the start of the round'}. {advice(self._config)}"
        )
        raise UnstableError(f"distillation stopped at step {step}: {reason}. {ending}")
