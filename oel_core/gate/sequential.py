"""How far a sequential trial is: which conditions are shown, and whether it is worth going on.

Evidence is looked at after every block of pairs. A condition that was shown once stays shown. A trial that has little
hope ends early; that costs some power and never lets a candidate through, since ending early is always allowed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oel_core.gate.conditions import Condition, Pair
from oel_core.gate.evidence import BETS, Values, log_evidence, log_mean_capital
from oel_core.gate.promotion import Check

FIRST_HOPE = 2
"""Blocks after which it is first asked whether there is hope: the spread of one block alone says little."""
OPTIMISM = 2.0
"""Standard errors by which the rest of a trial may go better than what was seen and still count as hopeless."""


@dataclass(frozen=True)
class Progress:
    """How far one condition is."""

    condition: Condition
    evidence: float
    """Highest natural logarithm of its evidence after any block."""
    hopeless: bool
    """It will hardly be shown with the episodes that are left."""

    @property
    def shown(self) -> bool:
        return self.evidence >= self.condition.required

    def check(self) -> Check:
        """As a line of the verdict; evidence as its decimal logarithm."""
        needed = self.condition.required / math.log(10)
        bound = f"log10 of the evidence at least {needed:.2f} that {self.condition.claim}"
        return Check(name=self.condition.name, passed=self.shown, value=self.evidence / math.log(10), bound=bound)


def progress(condition: Condition, blocks: Sequence[Sequence[Pair]], left: int) -> Progress:
    """How far a condition is after these blocks, in order.

    Args:
        left: pairs that may still be played.
    """
    by_block = [condition.values(block) for block in blocks]
    seen = [np.concatenate(by_block[: end + 1]) for end in range(len(by_block))]
    evidence = max((log_evidence(values, condition.least) for values in seen), default=0.0)
    hopeless = left == 0
    if left and len(blocks) >= FIRST_HOPE:
        hopeless = plausible_evidence(seen[-1], condition.least, left) < condition.required
    return Progress(condition, evidence, hopeless and evidence < condition.required)


def plausible_evidence(values: Values, least: float, left: int) -> float:
    """The logarithm of the evidence if the capital grew by `OPTIMISM` standard errors faster than it did so far.

    A trial that ends where this would not suffice is stochastically curtailed: Lan, Simon and Halperin, "Stochastically
    curtailed tests in long-term clinical trials", Communications in Statistics C 1, 1982.

    Args:
        values: shape (n,).
        least: what no value can be below; less than 0.
        left: values that are still to come.
    """
    if len(values) == 0:
        return 0.0
    growth = np.log1p(np.outer(BETS / -least, values))
    fast = growth.mean(axis=1) + OPTIMISM * growth.std(axis=1) / math.sqrt(len(values))
    return log_mean_capital(growth.sum(axis=1) + left * fast)
