"""Ends a distillation whose student has left its bounds, before the weights that are still good are overwritten."""

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


class Watch:
    """Looks at every step record of a round; all processes look at the same ones and so do the same.

    Args:
        config: bounds, and what is done about them.
        vocabulary: V, the student's.
        checkpoints: of the distillation.
        backtracks: of the distillation.
        ranks: the processes that share the work.
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
        """How often the round has gone back so far."""

    @property
    def sound(self) -> bool:
        """No signal was out of its bounds in the newest step."""
        return not self._breaches

    def begin(self, history: Sequence[StepRecord]) -> None:
        """Takes note of the steps that a resumed round has done."""
        self._history = list(history)

    def unapplied(self) -> float:
        """By what the learning rate of the newest step's checkpoint must still be multiplied."""
        return RATE ** (self.backtracks - self._history[-1].backtracks)

    def look(self, record: StepRecord) -> None:
        """Judges one more step.

        Raises:
            UnstableError: a signal has been out of its bounds for too long. Later checkpoints than the last good one
                are gone then, and where the round is to go back, that is recorded.
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
            self._leave(lasting)

    def _leave(self, breaches: Sequence[Breach]) -> None:
        """Back to the newest checkpoint that was measured within bounds.

        A step measures the weights that it starts from, so a checkpoint is known to be good once the next step is.
        What is later is removed before the return is recorded: killed in between, the round does the same again.
        """
        step, reason = self._history[-1].step, "; ".join(map(str, breaches))
        good = self._checkpoints.newest_before(min(breach.since for breach in breaches) - 1)
        returning = self._config.stability.policy == "backtrack" and self.backtracks < self._config.stability.backtracks
        self._ranks.wait()  # until all have looked at the checkpoints
        if self._ranks.index == 0:
            self._checkpoints.drop_after(step_of(good))
            if returning:
                self._log.append(Backtrack(step=step, to=step_of(good), reason=reason))
        self._ranks.wait()  # until they are as they will stay
        rate = self._config.learning_rate * RATE**self.backtracks
        ending = (
            f"It goes back to step {step_of(good)}, with the rate {RATE * rate:g} instead of {rate:g}"
            if returning
            else f"Last good checkpoint: {good or 'none yet, the start of the round'}. {advice(self._config)}"
        )
        raise UnstableError(f"distillation stopped at step {step}: {reason}. {ending}")
