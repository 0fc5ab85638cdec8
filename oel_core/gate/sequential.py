"""Progress of a sequential trial: which conditions are shown, and which are unlikely ever to be.

Evidence is computed after every block of pairs. A condition that was shown once stays shown. A trial that is unlikely
to succeed is stopped for futility, which costs some power and adds no false promotions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oel_core.gate.conditions import Condition, Pair
from oel_core.gate.evidence import BETS, Values, log_evidence, log_mean_capital
from oel_core.gate.promotion import Check

FIRST_FUTILITY_CHECK = 2
"""Blocks before the first check of futility: the variance within one block is a poor estimate."""
OPTIMISM = 2.0
"""Standard errors by which the remaining pairs are assumed to be better than those played."""


@dataclass(frozen=True)
class Progress:
    """Progress of one condition."""

    condition: Condition
    evidence: float
    """Highest natural logarithm of its evidence after any block so far."""
    futile: bool
    """It is unlikely to be shown with the remaining episodes."""

    @property
    def shown(self) -> bool:
        return self.evidence >= self.condition.required

    def check(self) -> Check:
        """As a line of the verdict; evidence as its decimal logarithm."""
        needed = self.condition.required / math.log(10)
        bound = f"log10 of the evidence at least {needed:.2f} that {self.condition.claim}"
        return Check(name=self.condition.name, passed=self.shown, value=self.evidence / math.log(10), bound=bound)


def progress(condition: Condition, blocks: Sequence[Sequence[Pair]], left: int) -> Progress:
    """The progress of a condition after these blocks, in order.

    Args:
        left: remaining pairs.
    """
    by_block = [condition.values(block) for block in blocks]
    seen = [np.concatenate(by_block[: end + 1]) for end in range(len(by_block))]
    evidence = max((log_evidence(values, condition.least) for values in seen), default=0.0)
    futile = left == 0
    if left and len(blocks) >= FIRST_FUTILITY_CHECK:
        futile = plausible_evidence(seen[-1], condition.least, left) < condition.required
    return Progress(condition, evidence, futile and evidence < condition.required)


def plausible_evidence(values: Values, least: float, left: int) -> float:
    """The logarithm of the evidence if the capital grew by `OPTIMISM` standard errors faster than it did so far.

    Stopping where even this would not suffice is stochastic curtailment: Lan, Simon and Halperin, "Stochastically
    curtailed tests in long-term clinical trials", Communications in Statistics C 1, 1982.

    Args:
        values: shape (n,).
        least: lower bound of all values; negative.
        left: number of remaining values.
    """
    if len(values) == 0:
        return 0.0
    growth = np.log1p(np.outer(BETS / -least, values))
    fast = growth.mean(axis=1) + OPTIMISM * growth.std(axis=1) / math.sqrt(len(values))
    return log_mean_capital(growth.sum(axis=1) + left * fast)
